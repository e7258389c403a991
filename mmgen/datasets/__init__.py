"""The data sets that are built here; `mmgen.data` reads any."""
