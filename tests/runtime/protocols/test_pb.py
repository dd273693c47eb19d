"""The generated message code says what the .proto files say.

The generator is not needed for this: the files use little of the language, which is read here.
"""

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    OneofDescriptorProto,
)

from marserve.protocols import pb
from marserve.protocols.pb import inference_pb2, management_pb2, open_inference_grpc_pb2

FOLDER = Path(pb.__path__[0])
MODULES = {
    "inference": inference_pb2,
    "management": management_pb2,
    "open_inference_grpc": open_inference_grpc_pb2,
}
TOKEN = re.compile(r'//[^\n]*|"[^"]*"|[\w.]+|[{}()<>=;,]')
SCALARS = {
    name.removeprefix("TYPE_").lower(): number
    for name, number in FieldDescriptorProto.Type.items()
    if name not in ("TYPE_MESSAGE", "TYPE_GROUP", "TYPE_ENUM")
}
REPEATED = FieldDescriptorProto.LABEL_REPEATED
OPTIONAL = FieldDescriptorProto.LABEL_OPTIONAL


class Reader:
    """Reads one .proto file into what protoc would say of it."""

    def __init__(self, name: str, text: str) -> None:
        self.tokens = [t for t in TOKEN.findall(text) if not t.startswith("//")]
        self.file = FileDescriptorProto(name=name)

    def next(self, *expected: str) -> str:
        token = self.tokens.pop(0)
        assert not expected or token in expected, (token, expected)
        return token

    def read(self) -> FileDescriptorProto:
        while self.tokens:
            match self.next():
                case "syntax":
                    self.next("=")
                    self.file.syntax = self.next().strip('"')
                case "package":
                    self.file.package = self.next()
                case "import":
                    self.file.dependency.append(self.next().strip('"'))
                case "option":
                    self.next("java_multiple_files")
                    self.next("=")
                    self.file.options.java_multiple_files = self.next() == "true"
                case "message":
                    self.message(self.file.message_type.add())
                    continue
                case "service":
                    self.service()
                    continue
            self.next(";")
        for message in self.file.message_type:
            self.resolve(message, f".{self.file.package}.{message.name}")
        return self.file

    def service(self) -> None:
        service = self.file.service.add(name=self.next())
        self.next("{")
        while self.next("rpc", "}") == "rpc":
            method = service.method.add(name=self.next())
            method.input_type, streams = self.argument()
            if streams:
                method.client_streaming = True
            self.next("returns")
            method.output_type, streams = self.argument()
            if streams:
                method.server_streaming = True
            self.next(";")

    def argument(self) -> tuple[str, bool]:
        self.next("(")
        name = self.next()
        streams = name == "stream"
        if streams:
            name = self.next()
        self.next(")")
        return (f".{name}" if "." in name else f".{self.file.package}.{name}"), streams

    def message(self, message: DescriptorProto) -> None:
        message.name = self.next()
        self.next("{")
        optional = []
        while (token := self.next()) != "}":
            if token == "message":
                self.message(message.nested_type.add())
            elif token == "oneof":
                index = len(message.oneof_decl)
                message.oneof_decl.add(name=self.next())
                self.next("{")
                while (token := self.next()) != "}":
                    self.field(message, token).oneof_index = index
            elif token == "optional":
                optional.append(self.field(message, self.next()))
            else:
                self.field(message, token)
        for field in optional:  # each is a oneof of its own, after the written ones
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.append(OneofDescriptorProto(name=f"_{field.name}"))

    def field(self, message: DescriptorProto, kind: str) -> FieldDescriptorProto:
        label = REPEATED if kind == "repeated" else OPTIONAL
        if label == REPEATED:
            kind = self.next()
        if kind == "map":
            return self.map(message)
        field = message.field.add(label=label, type_name=kind)
        self.named(field)
        return field

    def map(self, message: DescriptorProto) -> FieldDescriptorProto:
        self.next("<")
        key = self.next()
        self.next(",")
        value = self.next()
        self.next(">")
        field = message.field.add(label=REPEATED)
        self.named(field)
        entry = message.nested_type.add(name=f"{field.name.title().replace('_', '')}Entry")
        entry.field.add(name="key", number=1, label=OPTIONAL, type_name=key)
        entry.field.add(name="value", number=2, label=OPTIONAL, type_name=value)
        entry.options.map_entry = True
        field.type_name = entry.name
        return field

    def named(self, field: FieldDescriptorProto) -> None:
        field.name = self.next()
        self.next("=")
        field.number = int(self.next())
        self.next(";")

    def resolve(self, message: DescriptorProto, scope: str) -> None:
        """Give every field its type: a scalar, or the full name of a message."""
        inner = {nested.name for nested in message.nested_type}
        for field in message.field:
            kind = field.type_name
            if kind in SCALARS:
                field.type = SCALARS[kind]
                field.ClearField("type_name")
            else:
                field.type = FieldDescriptorProto.TYPE_MESSAGE
                home = scope if kind in inner else f".{self.file.package}"
                field.type_name = f".{kind}" if "." in kind else f"{home}.{kind}"
        for nested in message.nested_type:
            self.resolve(nested, f"{scope}.{nested.name}")


@pytest.mark.parametrize("name", MODULES)
def test_the_generated_code_describes_what_its_proto_file_says(name):
    said = Reader(f"marserve/protocols/pb/{name}.proto", (FOLDER / f"{name}.proto").read_text())
    generated = FileDescriptorProto()
    MODULES[name].DESCRIPTOR.CopyToProto(generated)
    for message in generated.message_type:
        without_json_names(message)
    written = said.read()
    for message in (*written.message_type, *generated.message_type):
        in_order(message)
    assert generated == written


def test_every_proto_file_has_its_generated_code_and_nothing_else_is_there():
    names = {path.name for path in FOLDER.iterdir() if path.is_file()}
    ours = {f"{name}{end}" for name in MODULES for end in (".proto", "_pb2.py", "_pb2.pyi")}
    assert names == ours | {"__init__.py"}


def test_the_generated_code_does_not_bind_its_user_to_a_release_of_protobuf():
    for name in MODULES:
        assert "runtime_version" not in (FOLDER / f"{name}_pb2.py").read_text()


def without_json_names(message: DescriptorProto) -> None:
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        without_json_names(nested)


def in_order(message: DescriptorProto) -> None:
    """Nested types by name: protoc puts those of maps where it likes."""
    nested = sorted(message.nested_type, key=lambda one: one.name)
    for one in nested:
        in_order(one)
    copies = [DescriptorProto.FromString(one.SerializeToString()) for one in nested]
    del message.nested_type[:]
    message.nested_type.extend(copies)
