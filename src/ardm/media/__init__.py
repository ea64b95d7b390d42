"""Pictures and samples written for people."""
