"""The figures of the papers, each by one resumable command, with numbers beside the papers'."""
