"""ESP data planes behind one interface."""
