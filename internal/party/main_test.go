package party

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"
)

// transportConfig is the environment variable with which this test binary runs the transport of a party. It
// names the configuration file. The process ends with its standard input.
const transportConfig = "HUTONG_TEST_TRANSPORT_CONFIG"

// olderProgram is the environment variable that names the program of an older version. With it, which make
// upgrade sets, the partner of a party with several transports is of that version.
const olderProgram = "HUTONG_TEST_OLDER"

func TestMain(m *testing.M) {
	if file := os.Getenv(transportConfig); file != "" {
		if err := runTransport(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func runTransport(file string) error {
	cfg, err := Load(file, nil)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
		close(ended)
	}()
	p, err := Start(ctx, cfg, Roles{Transport: true}, quietLog)
	if err != nil {
		return err
	}
	select {
	case <-ended:
	case err = <-p.Failed():
	}
	p.Stop(context.Background())
	return err
}
