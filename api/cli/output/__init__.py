"""What commands print: for people at a terminal, as plain text in a pipe, or as JSON, one document a line."""
