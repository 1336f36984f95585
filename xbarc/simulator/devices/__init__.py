"""Device effects, one a file: `xbarc.simulator.effect` says what one is."""
