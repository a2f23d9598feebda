"""Bilinear upsampling of a plane, such as the defocus map, kept out of ONNX Runtime's wide layout.

On a CPU, ONNX Runtime holds what is between convolutions as blocks of 8 or 16 channels, and takes
bilinear upsampling into that layout: a plane is then padded to a whole block, and what comes after
it at full resolution computes up to 16 planes for one. It does so for the coordinates `half_pixel`
only. `pytorch_half_pixel` is the same but for results of one pixel, which no upsampling has; with
it the plane stays a plane. Other runtimes compute both alike.
"""

from __future__ import annotations

from onnx import NodeProto

from allfocus.export.surgery_graph import Editor, attributes


def resize_planes(editor: Editor) -> list[str]:
    """Change the coordinates' name where tensors of one channel are upsampled bilinearly."""
    done = []
    for node in editor.graph.node:
        if node.op_type == "Resize" and _is_plane(editor, node) and _doubles(editor, node):
            for each in node.attribute:
                if each.name == "coordinate_transformation_mode":
                    each.s = b"pytorch_half_pixel"
            done.append(f"{node.output[0]}: a plane stays a plane where it is upsampled")
    return done


def _is_plane(editor: Editor, node: NodeProto) -> bool:
    given = attributes(node)
    bilinear = given.get("mode") == b"linear"
    coordinates = given.get("coordinate_transformation_mode")
    return bilinear and coordinates == b"half_pixel" and editor.channels(node.input[0]) == 1


def _doubles(editor: Editor, node: NodeProto) -> bool:
    """Whether height and width grow at least twofold, so that neither can be one pixel."""
    scales = editor.numbers(node.input[2]) if len(node.input) > 2 else None
    return scales is not None and len(scales) == 4 and min(scales[2:]) >= 2
