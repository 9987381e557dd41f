"""One module a command, named after it. A module is loaded when its command is used."""
