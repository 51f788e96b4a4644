"""The sections of a configuration, one file each: every key, its meaning, its unit and what it affects."""
