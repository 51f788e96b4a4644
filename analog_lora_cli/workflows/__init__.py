"""One readable recipe for each command; they write the files of the contract."""
