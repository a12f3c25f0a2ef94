"""Whatever happens between a writer and its server, or to either: each row is stored once."""
