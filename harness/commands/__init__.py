"""Commands: what each verb of the command line does, a verb a file."""
