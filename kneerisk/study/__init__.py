"""What a study asks of a score table: outcomes, evaluation, calibration; no images, no networks.

Everything here works from the table of ``kneerisk score`` and a table of readers' grades.
"""
