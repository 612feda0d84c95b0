"""Which of the files that people and programs drop are meant for us, told from their names."""

UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", ".swp")


def is_meant(name: str) -> bool:
    """Whether a file of this name is for us: not hidden, nor below a hidden folder, nor named as unfinished."""
    return not name.endswith(UNFINISHED) and not any(part.startswith(".") for part in name.split("/"))
