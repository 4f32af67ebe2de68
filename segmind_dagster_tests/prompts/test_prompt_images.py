from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from segmind_dagster.prompts.images import MAX_IMAGE_BYTES, ImageReader

if TYPE_CHECKING:
    from conftest import Project

STICKER = "models: [face_to_sticker]\nimage: {image}\nprompts: [a person]\n"


def test_a_local_image_is_kept_out_of_the_body_with_the_digest_of_its_bytes(project: Project, png: bytes) -> None:
    path = project.write("pictures/face.png", png)
    (request,) = project.load(STICKER.format(image="pictures/face.png")).generations
    assert "image" not in request.body
    image = request.images["image"]
    assert (image.url, image.path, image.sha256) == (None, path.resolve(), sha256(png).hexdigest())


def test_an_image_url_is_plain_text_in_the_body(project: Project) -> None:
    (request,) = project.load(STICKER.format(image="https://example.com/face.jpg")).generations
    assert request.body["image"] == "https://example.com/face.jpg"
    assert not request.images


def test_the_content_of_an_image_counts_and_its_name_does_not(project: Project, png: bytes) -> None:
    project.write("a.png", png)
    project.write("b.png", png)
    first = project.load(STICKER.format(image="a.png")).generations[0]
    same = project.load(STICKER.format(image="b.png")).generations[0]
    project.write("a.png", png + b"another picture")
    changed = project.load(STICKER.format(image="a.png")).generations[0]
    assert (same.generation_id, same.seed) == (first.generation_id, first.seed)
    assert changed.generation_id != first.generation_id
    assert changed.seed != first.seed


def test_the_digest_of_a_set_changes_with_the_images_it_refers_to(project: Project, png: bytes) -> None:
    project.write("a.png", png)
    before = project.load(STICKER.format(image="a.png")).digest
    assert project.load(STICKER.format(image="a.png")).digest == before
    project.write("a.png", png + b"another picture")
    assert project.load(STICKER.format(image="a.png")).digest != before


def test_the_image_goes_to_the_first_image_parameter_of_each_model(project: Project, png: bytes) -> None:
    project.write("a.png", png)
    loaded = project.load(
        "models: [face_to_sticker, instantid, consistent_character_neolemon_v2]\nimage: a.png\nprompts: [a person]\n"
    )
    assert [list(request.images) for request in loaded.generations] == [["image"], ["face_image"], ["ip_image"]]


def test_images_may_be_given_by_their_own_names_and_the_nearest_one_wins(project: Project, png: bytes) -> None:
    for name in ("set", "model", "prompt"):
        project.write(f"{name}.png", png + name.encode())
    loaded = project.load(
        "image: set.png\n"
        "models: {instantid: {face_image: model.png, pose_image: 'http://example.com/pose.png'}, face_to_sticker: }\n"
        "prompts:\n"
        "  - one\n"
        "  - {prompt: two, image: prompt.png}\n"
        "  - {prompt: three, models: [instantid], params: {face_image: https://example.com/x.png}}\n"
    )
    one, one_sticker, two, two_sticker, three = loaded.generations
    assert one.images["face_image"].path.name == "model.png"
    assert one.body["pose_image"] == "http://example.com/pose.png"
    assert one_sticker.images["image"].path.name == "set.png"
    assert two.images["face_image"].path.name == two_sticker.images["image"].path.name == "prompt.png"
    assert not three.images
    assert three.body["face_image"] == "https://example.com/x.png"


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("nothing.png", "there is no file 'nothing.png'; paths are relative to the prompt file's folder"),
        ("../../outside.png", "lies outside the project folder"),
        ("/etc/hostname", "lies outside the project folder"),
        ("link.png", "lies outside the project folder"),
        ("loop.png", "cannot be read"),
        ("text.png", "is not a PNG, JPEG, WebP or GIF image"),
        ("empty.png", "is not a PNG, JPEG, WebP or GIF image"),
        ("large.png", "is larger than 20 MB"),
        ("folder", "is not a regular file"),
        ("pipe.png", "is not a regular file"),
        ("ftp://example.com/a.png", "is neither an http(s) URL nor a local file"),
        ("https://", "is neither an http(s) URL nor a local file"),
        ("'https://exa mple.com/a b.png'", "is neither an http(s) URL nor a local file"),
        ("'http://[::1/a.png'", "is neither an http(s) URL nor a local file"),
        ("'data:image/png;base64,AAAA'", "is neither an http(s) URL nor a local file"),
        ("a" * 5000 + ".png", "cannot be read: File name too long"),
        ("''", "is not a regular file"),
    ],
)
def test_an_image_that_cannot_be_used_is_a_problem(project: Project, png: bytes, image: str, words: str) -> None:
    (project.folder.parent / "outside.png").write_bytes(png)
    (project.prompts / "link.png").symlink_to(project.folder.parent / "outside.png")
    (project.prompts / "loop.png").symlink_to(project.prompts / "loop.png")
    project.write("text.png", "<svg/>")
    project.write("empty.png", b"")
    project.write("folder/a.png", png)
    os.mkfifo(project.prompts / "pipe.png")
    with project.write("large.png", png).open("r+b") as stream:
        stream.truncate(MAX_IMAGE_BYTES + 1)
    problem = project.problem(STICKER.format(image=image))
    assert words in problem.message
    assert (problem.line, problem.field) == (2, "image")


@pytest.mark.parametrize("start", [b"\xff\xd8\xff\xe0", b"RIFF\x00\x0a\x00\x00WEBPVP8 ", b"GIF87a", b"GIF89a"])
def test_other_kinds_of_image_are_accepted(project: Project, start: bytes) -> None:
    project.write("face", start + b"...")
    assert project.load(STICKER.format(image="face")).generations[0].images


def test_a_symbolic_link_within_the_project_is_followed(project: Project, png: bytes) -> None:
    (project.folder / "real.png").write_bytes(png)
    (project.prompts / "link.png").symlink_to(project.folder / "real.png")
    image = project.load(STICKER.format(image="link.png")).generations[0].images["image"]
    assert image.path == (project.folder / "real.png").resolve()


def test_a_model_without_an_image_parameter_refuses_one(project: Project, png: bytes) -> None:
    project.write("a.png", png)
    problem = project.problem("image: a.png\nprompts: [a fox]\n")
    assert str(problem) == (
        "set.yaml, line 1, image: fast_flux_schnell takes no image; leave it out, or aim at another model"
    )


def test_a_missing_image_is_reported_once_for_all_prompts(project: Project) -> None:
    problem = project.problem("models: [instantid]\nprompts:\n  - one\n  - two\n  - three\n")
    assert str(problem) == (
        "set.yaml, line 3, prompts[0]: instantid needs 'face_image', and 3 prompts, of which this is the first, give "
        "none; give 'image', or 'face_image' in 'params'"
    )


def test_the_same_image_given_in_two_ways_is_a_problem(project: Project, png: bytes) -> None:
    project.write("a.png", png)
    problem = project.problem("models: [instantid]\nimage: a.png\ndefaults: {face_image: a.png}\nprompts: [a fox]\n")
    assert (problem.line, problem.field) == (3, "defaults.face_image")
    assert "keep one" in problem.message


def test_each_file_is_read_once_per_load(project: Project, png: bytes) -> None:
    path = project.write("a.png", png)
    reader = ImageReader(folder=project.prompts, project_dir=project.folder)
    first = reader.read("a.png")
    path.unlink()
    assert reader.read("a.png") is first
    assert reader.digests == {"a.png": sha256(png).hexdigest()}
