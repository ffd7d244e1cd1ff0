"""Writing the first version of a use-case file from a table: profile, guesses, declaration, text."""
