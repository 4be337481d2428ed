"""A Caffe model as bytes, written by hand: the protocol buffers of which a .caffemodel consists."""


def varint(number):
    seven, rest = number & 127, number >> 7
    return bytes([seven | 128]) + varint(rest) if rest else bytes([seven])


def field(number, content):
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array, *, legacy=False, data=5):
    if legacy:
        sides = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(field(number, side) for number, side in enumerate(sides, 1))
    else:
        shape = field(7, field(1, b"".join(map(varint, array.shape))))
    return shape + field(data, array.tobytes()) + field(6, array.tobytes())  # 6: the gradient, of no interest


def layer(name, blobs, *, v1=False):
    named, holds, number = (4, 6, 2) if v1 else (1, 7, 100)
    kind = field(5, 4) if v1 else field(2, b"Convolution")
    content = field(named, name.encode()) + kind + field(3 if not v1 else 2, b"data")
    return field(number, content + b"".join(field(holds, blob) for blob in blobs))
