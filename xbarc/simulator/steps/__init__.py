"""What the interpreter does at each operation of the tile IR; a file is called as its operation."""
