"""Hardware targets, one TOML file each; `NAME.toml` holds the target called NAME."""
