"""What an attribute network recognises in images."""

from __future__ import annotations

import torch

from vouch.models.networks.attributes import AttributeNet, Recognition


@torch.no_grad()
def recognise(net: AttributeNet, images: torch.Tensor, batch: int = 256) -> Recognition:
    """What `net` says of uint8 images [N, 3, S, S]."""
    from vouch.models.networks.backbone import to_input

    parts = [net(to_input(images[i : i + batch], net.size)) for i in range(0, len(images), batch)]
    return Recognition(
        torch.cat([p.labels for p in parts]),
        {name: torch.cat([p.attributes[name] for p in parts]) for name in parts[0].attributes},
        torch.cat([p.features for p in parts]),
    )
