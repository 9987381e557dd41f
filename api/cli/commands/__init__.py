"""The commands, a module each, named as they are typed. A module is loaded when its command is used."""
