"""LPIPS weights of random numbers, for networks of few channels."""

import torch
from safetensors.torch import save_file
from torch import nn


def small_backbones():
    """Torchvision's stacks with few channels; where to look after a ReLU, by its place in the stack."""

    def vgg(widths=(4, 4, 6, 6, 8, 8, 8, 5, 5, 5, 7, 7, 7)):
        layers, last = [], 3
        for i, width in enumerate(widths):
            if i in (2, 4, 7, 10):
                layers.append(nn.MaxPool2d(2, 2))
            layers += [nn.Conv2d(last, width, 3, padding=1), nn.ReLU()]
            last = width
        return nn.Sequential(*layers)

    alex = nn.Sequential(
        nn.Conv2d(3, 6, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(6, 8, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 9, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(9, 7, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(7, 7, 3, padding=1),
        nn.ReLU(),
    )
    # LPIPS 0.1: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3 of VGG16; relu1 to relu5 of AlexNet.
    return {"vgg": (vgg(), (3, 8, 15, 22, 29)), "alex": (alex, (1, 4, 7, 9, 11))}


def write_weights(folder, network):
    torch.manual_seed(0)
    stack, taps = small_backbones()[network]
    name = {"vgg": "vgg16", "alex": "alexnet"}[network]
    tensors = {f"features.{key}": value for key, value in stack.state_dict().items()}
    save_file(tensors, folder / f"{name}_features.safetensors")
    heads = [torch.rand(1, stack[tap - 1].out_channels, 1, 1) for tap in taps]
    save_file({f"lin{i}.model.1.weight": head for i, head in enumerate(heads)}, folder / f"{network}.safetensors")
    return stack, taps, heads
