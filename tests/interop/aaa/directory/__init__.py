"""The company's directories, real ones."""
