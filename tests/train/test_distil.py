"""Teaching a U-Net to forecast in fewer steps."""

import numpy as np
import pytest
import torch
from kneerisk_train.distil.distil import Student, _cumulative_error, few_steps, with_section
from kneerisk_train.distil.fidelity import compare_risks
from kneerisk_train.run.recipe import DistilStage, OptimConfig

from kneerisk.method.diffusion import sample
from kneerisk.models.classifier import Classifier, ClassifierConfig
from kneerisk.models.unet import UNet, UNetConfig


@pytest.mark.parametrize("steps", [1, 2])
def test_a_student_is_trained_on_what_the_sampler_will_do_with_it(steps: int) -> None:
    torch.manual_seed(0)
    unet = UNet(UNetConfig(channels=8, multipliers=(1, 2))).eval()
    torch.nn.init.normal_(unet.leave[2].weight, std=0.3)
    noise, current = torch.randn(2, 3, 8, 4, 4)

    def velocity(*arrays: np.ndarray) -> np.ndarray:
        return unet(*(torch.from_numpy(array) for array in arrays)).detach().numpy()

    with torch.no_grad():
        ours = few_steps(unet, noise, current, steps).numpy()
    np.testing.assert_allclose(ours, sample(velocity, current.numpy(), noise.numpy(), steps), atol=1e-5)
    assert np.abs(ours + noise.numpy()).max() > 0.1


def test_a_students_classifier_is_taught_as_it_will_be_used() -> None:
    torch.manual_seed(0)
    classifier = Classifier(ClassifierConfig(latent_channels=8, dropout=0.5)).eval()
    student = Student(UNet(UNetConfig(channels=8, multipliers=(1, 2))), classifier, 1).train()
    noise, current, future = torch.randn(3, 2, 8, 28, 28)
    before = {name: value.clone() for name, value in classifier.named_buffers()}
    said = student(noise, current, future)
    assert all(torch.equal(before[name], value) for name, value in classifier.named_buffers())
    torch.testing.assert_close(said.teachers_grade, classifier(future)[0])
    torch.testing.assert_close(said.grade, classifier(said.forecast)[0])
    torch.testing.assert_close(said.forecast, few_steps(student.unet, noise, current, 1))
    (said.grade[0, 0] + said.landmarks.sum()).backward()
    assert all(parameter.grad is not None for parameter in classifier.parameters())


def test_the_risk_term_minds_how_far_a_chance_moved_up_the_grades() -> None:
    wanted = torch.tensor([[0.7, 0.3, 0.0, 0.0, 0.0]])
    one_up, three_up = torch.tensor([[0.6, 0.4, 0, 0, 0]]), torch.tensor([[0.6, 0.3, 0, 0.1, 0]])
    assert _cumulative_error(wanted, wanted) == 0
    assert _cumulative_error(wanted, one_up).item() == pytest.approx(0.01)
    assert _cumulative_error(wanted, three_up).item() == pytest.approx(0.03)


def test_a_stack_distilled_again_keeps_one_section_of_steps() -> None:
    once = with_section("# Card\n\nKnees.\n", "## Fewer steps\n\n2 steps: 0.04")
    assert once == "# Card\n\nKnees.\n\n## Fewer steps\n\n2 steps: 0.04\n"
    assert with_section(once, "## Fewer steps\n\n2 steps: 0.03") == once.replace("0.04", "0.03")


def test_more_steps_than_two_are_no_student() -> None:
    with pytest.raises(ValueError, match="steps must be 1 or 2"):
        DistilStage(OptimConfig(steps=1), steps=3)


def test_risks_are_compared_knee_by_knee() -> None:
    p_now = np.float32([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]])
    wanted = np.float32([[0.8, 0.2, 0, 0, 0], [0.5, 0.5, 0, 0, 0]])
    later = np.float32([[0.8, 0.2, 0, 0, 0], [0.4, 0.6, 0, 0, 0]])
    apart = compare_risks(p_now, later, wanted)
    assert apart["risk_max"] == pytest.approx(0.1, abs=1e-6)
    assert apart["risk_p50"] == pytest.approx(0.05, abs=1e-6)
    assert apart["kl_12m_changed"] == pytest.approx(0.5)
