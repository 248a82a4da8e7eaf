"""Releases of knee cohorts as distributed → ``manifest.parquet`` and ``knees.h5``, for training.

oai, most, folder   what a release holds: its radiographs and what its tables say of each knee
crops               one radiograph → its knees' crops, in a worker process
staging             finished radiographs, kept on disk while the run is on
assemble            crops and tables → the two files, the pairs of visits, the summary
prepare             all of it, one radiograph after another
"""
