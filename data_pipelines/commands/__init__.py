"""How every command starts and ends: flags, flagfiles, signals, memory. Imports errors, config."""
