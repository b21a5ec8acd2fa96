// Package ptp is the transport layer's messages and gRPC services, generated from
// ptp.proto: for clients written in Go. The transport itself reads and writes
// them piece by piece, so that large messages are never whole in memory.
//
// Generated with protoc 27.2, protoc-gen-go v1.36.12 and protoc-gen-go-grpc v1.5.1.
package ptp

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative ptp.proto
