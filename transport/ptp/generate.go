// Package ptp holds the transport layer's messages and gRPC services, generated from ptp.proto. It is for
// clients in Go. The transport itself reads and writes the messages in pieces (package wire), so that a large
// message is never whole in memory.
//
// Generated with protoc 27.2, protoc-gen-go v1.36.12 and protoc-gen-go-grpc v1.5.1.
package ptp

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative ptp.proto
