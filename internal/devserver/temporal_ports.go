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

// checkPort finds out whether a port can be listened on, before the server does, which can't say it this clearly.
func checkPort(port int, flag string) error {
	l, err := net.Listen("tcp", hostPort(port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("port %d of %s is in use: stop what listens there, or give another one with %s", port, loopback, flag)
	}
	if err != nil {
		return fmt.Errorf("port %d of %s (%s): %w", port, loopback, flag, err)
	}
	return l.Close()
}

// freePorts finds n ports that are free now and that the kernel gives nobody else for the next minute: each has had a
// connection that this side closed first, which leaves it in TIME_WAIT. It can still be listened on by who names it.
func freePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for range n {
		port, err := freePort()
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
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
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return 0, err
	}
	defer func() { _ = ours.Close() }()
	theirs, err := l.Accept()
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, theirs.Close()
}
