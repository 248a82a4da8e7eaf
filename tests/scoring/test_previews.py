from PIL import ImageFont

from kneerisk.scoring.outputs.previews import drawable


def test_names_with_accents_are_drawn_in_letters_that_the_font_has() -> None:
    font = ImageFont.load_default(30)
    box = bytes(font.getmask("\ue000"))
    words = drawable("Jürgen Ångström, Žižek · é…")
    assert words == "Jurgen Angstrom, Zizek · e…"
    assert not [letter for letter in words if bytes(font.getmask(letter)) == box]
