"""Readers' grades as tables hold them: long, wide, or a release's own."""
