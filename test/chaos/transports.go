package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"

	"hutong/test/testenv/ports"
)

// One party has two transports behind a load balancer.
const (
	partyWithTransports = "guest"
	secondTransport     = partyWithTransports + " transport 2"
)

// transportAddresses are those of one of several transports.
type transportAddresses struct{ listen, partners, plain string }

// environment returns the variables with which a transport differs from the others of its party.
func (a transportAddresses) environment(dir string, number int) []string {
	return []string{"HUTONG_TRANSPORT_LISTEN=" + a.listen, "HUTONG_TRANSPORT_PARTNER_LISTEN=" + a.partners,
		"HUTONG_TRANSPORT_PARTNER_PLAIN_LISTEN=" + a.plain,
		fmt.Sprint("HUTONG_TRANSPORT_NAME=transport-", number),
		"HUTONG_TRANSPORT_SPOOL_DIR=" + filepath.Join(dir, fmt.Sprint("spool-", number))}
}

// balance gives a party two transports, and serves its addresses for their partners. Each start of the second
// one takes over its spool at another address, as a standby on another machine does.
func (p *party) balance(ctx context.Context) error {
	var partners, plain []string
	for _, places := range []int{1, 2} {
		var addresses []transportAddresses
		for range places {
			var a transportAddresses
			for _, address := range []*string{&a.listen, &a.partners, &a.plain} {
				var err error
				if *address, err = ports.Address(); err != nil {
					return err
				}
			}
			addresses = append(addresses, a)
			partners, plain = append(partners, a.partners), append(plain, a.plain)
		}
		p.transports = append(p.transports, addresses)
	}
	if err := balance(ctx, p.partnerTransport, partners); err != nil {
		return err
	}
	return balance(ctx, p.plainTransport, plain)
}

// launchTransports starts the transports of a party that has several.
func (d *deployment) launchTransports(p *party) {
	for i, addresses := range p.transports {
		starts := 0
		d.launch(transportName(p, i), false, func() *exec.Cmd {
			a := addresses[starts%len(addresses)]
			starts++
			c := p.hutong(d.versions.of(transportName(p, i)), "transport")
			c.Env = append(c.Env, a.environment(p.dir, i+1)...)
			return c
		}, nil)
	}
}

func transportName(p *party, i int) string {
	if i == 0 {
		return p.name + " transport"
	}
	return fmt.Sprint(p.name, " transport ", i+1)
}

// awaitTransports waits until all transports of a party listen.
func (d *deployment) awaitTransports(ctx context.Context, p *party) error {
	for i, addresses := range p.transports {
		name := transportName(p, i)
		if err := awaitReady(ctx, name, d.processes[name], func() bool {
			return slices.ContainsFunc(addresses, func(a transportAddresses) bool {
				return canConnect("tcp", a.listen)
			})
		}); err != nil {
			return err
		}
	}
	return nil
}

// balance passes connections to an address on to its targets in turn, and skips those that do not listen.
func balance(ctx context.Context, address string, targets []string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("failed to listen as a load balancer: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	var next atomic.Uint64
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = in.Close() }()
				for range targets {
					out, err := net.Dial("tcp", targets[next.Add(1)%uint64(len(targets))])
					if err == nil {
						join(in, out)
						return
					}
				}
			}()
		}
	}()
	return nil
}

// join copies between two connections until one of them ends.
func join(a, b net.Conn) {
	done := make(chan struct{}, 2)
	for _, c := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() {
			_, _ = io.Copy(c[0], c[1])
			done <- struct{}{}
		}()
	}
	<-done
	_, _ = a.Close(), b.Close()
	<-done
}
