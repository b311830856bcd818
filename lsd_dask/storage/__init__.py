"""Small files and tables on any store, written whole or not at all."""
