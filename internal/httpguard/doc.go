// Package httpguard refuses HTTP/1 requests that HTTP forbids (RFC 9112) before a server reads them.
//
// The servers behind it are lenient, each in its own way: they fold lines, take the last of two lengths, or
// ignore a length that comes with chunks. A gateway that reads such a request differently sees other requests
// on the connection than the server does (request smuggling). The guard follows the framing of every message
// on a connection. It lets through what has one meaning only, so that it does not matter how lenient a server
// is.
package httpguard
