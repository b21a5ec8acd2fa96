// Package wire reads and writes the messages of the transport layer (BFIA API_SPECS part 4, 5.1 and 5.2) as
// JSON, as protobuf, and in the frames of gRPC and of streams over HTTP.
//
// Payloads pass through it in pieces: a message may have 2 GiB, and a reader takes some 100 KiB of memory
// whatever the size. That is why it does not use encoding/json, the protobuf library or a gRPC library for
// them. All input is untrusted; fuzz tests compare the parsers with those libraries.
package wire
