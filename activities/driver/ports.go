package driver

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// ContainerControlPort is the one that the protocol names as the usual, for a run that has an address of its own.
const ContainerControlPort = 10086

const Loopback = "127.0.0.1"

// The ports that runs on the host's network are given: below those that systems hand out by themselves, so that hardly
// anybody takes one before its run listens.
const firstPort, lastPort = 12000, 32000

// FreePort finds a port of the host on which nothing listens now. It is any of many, since nothing keeps it free.
func FreePort() (int, error) {
	var err error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf(":%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("finding a free port: %w", err)
}
