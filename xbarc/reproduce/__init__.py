"""`xbarc reproduce`: one paper a file, its figures beside ours."""
