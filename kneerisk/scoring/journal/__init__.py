"""A crash-safe journal beside the table: what was asked, what was found, each image's rows.

    risks.parquet.kneerisk/
      listing.jsonl   the settings that make a row what it is, every image of the scan in order, their count
      rows.jsonl      one record an image: its key, what the file was, its rows; appended and flushed to disk
      suspects        the images that are being read: see suspects.py
      lock            held while a run works here

Every line begins with a CRC of the rest. A record's key is a hash of the settings and of all that the scan
knew of the image, so a record holds for these alone, wherever the image now stands: a resumed run scans its
inputs again, and takes the records whose keys it meets. Hence a listing may be lost without harm, a line
that fails its CRC costs its own image a second scoring, and files that came since are scored.
"""
