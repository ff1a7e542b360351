"""The pages of the security console, one file for each group of them."""
