// Reach is the program of pods that try what the network policies let them reach.
//
//	reach after FILE HOST:PORT...  waits for a file, tries to connect to all, and prints which it reaches
//	reach listen :PORT             accepts connections
package main

import (
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

const (
	// timeout leaves time for three packets of a connection.
	timeout = 6 * time.Second
	// poll is the interval in which the file is looked for.
	poll = 200 * time.Millisecond
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: reach after FILE HOST:PORT..., reach listen :PORT")
		os.Exit(2)
	}
	if os.Args[1] == "listen" {
		fmt.Fprintln(os.Stderr, "reach:", listen(os.Args[2]))
		os.Exit(1)
	}

	for _, err := os.Stat(os.Args[2]); err != nil; _, err = os.Stat(os.Args[2]) {
		time.Sleep(poll)
	}
	var tries sync.WaitGroup
	for _, address := range os.Args[3:] {
		tries.Go(func() {
			connection, err := net.DialTimeout("tcp", address, timeout)
			if err != nil {
				fmt.Printf("%s refused\n", address)
				return
			}
			_ = connection.Close()
			fmt.Printf("%s reached\n", address)
		})
	}
	tries.Wait()
}

// listen accepts connections until it fails.
func listen(address string) error {
	listener, err := net.Listen("tcp", address)
	for err == nil {
		var connection net.Conn
		if connection, err = listener.Accept(); err == nil {
			_ = connection.Close()
		}
	}

	return err
}
