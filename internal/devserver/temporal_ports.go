//go:build !slim

package devserver

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

const loopback = "127.0.0.1"

func hostPort(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// checkPort checks that a port is free, because the server's own error would not name the flag.
func checkPort(port int, flag string) error {
	l, err := net.Listen("tcp", hostPort(port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: port %d of %s is in use: stop the program that listens there, or choose "+
			"another port", flag, port, loopback)
	}
	if err != nil {
		return fmt.Errorf("%s: failed to listen on port %d of %s: %w", flag, port, loopback, err)
	}
	return l.Close()
}

// freePorts returns n free ports that the kernel assigns to no other program for the next minute. Each port
// has had a connection that this side closed first, which leaves it in TIME_WAIT. A program can still listen
// on it explicitly.
func freePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range n {
		port, err := freePort()
		if err != nil {
			return nil, fmt.Errorf("failed to find a free port: %w", err)
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", hostPort(0))
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return 0, err
	}
	defer func() { _ = client.Close() }()
	server, err := l.Accept()
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, server.Close()
}
