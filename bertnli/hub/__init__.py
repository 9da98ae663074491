"""A name or a URL becomes a verified local file or folder."""

from bertnli.hub.catalogue import DATA_HUB, HubFile, download, download_extract, register

__all__ = ["DATA_HUB", "HubFile", "download", "download_extract", "register"]
