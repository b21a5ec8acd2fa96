package party

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
)

// NewDocker returns the party's Docker driver. It does not connect to Docker Engine.
func (c *Config) NewDocker() (*docker.Driver, error) {
	d := c.Runner.Docker
	offered := c.Runner.Offered(driver.Capacity{})
	return docker.New(docker.Options{NodeID: c.NodeID, Network: d.Network, HostNetwork: d.HostNetwork,
		PartyHost: d.PartyHost, SharedMemory: c.Runner.sharedMemory(), Proxy: c.Proxy.Rule(),
		Runtime: d.Runtime, Pids: int64(d.Pids), TmpBytes: c.Runner.tmpBytes(), Slots: c.Runner.Slots,
		CPUMilli: offered.CPUMilli, Memory: offered.Memory})
}

// openDocker opens the Docker driver. It returns nil if the driver is off, or if it is auto and Docker Engine
// does not answer.
func (p *Party) openDocker(ctx context.Context) (*docker.Driver, error) {
	if p.cfg.Runner.Docker.Enabled == SwitchOff {
		return nil, nil
	}
	d, err := p.cfg.NewDocker()
	if err == nil {
		_, err = d.RunnerID(ctx)
	}
	if err != nil {
		if p.cfg.Runner.Docker.Enabled == SwitchOn {
			return nil,
				fmt.Errorf("failed to connect party %s to Docker Engine (runner.docker.enabled is true): %w",
					p.cfg.NodeID, err)
		}
		p.logger.Info("Docker Engine does not answer; the docker driver is off", "error", err)
		return nil, nil
	}
	p.onStop(func(context.Context) error { return d.Close() })
	return d, nil
}

// bridgeCheck is the interval at which a party checks the address of its bridge network.
const bridgeCheck = 5 * time.Second

// bridgeGiveUp is how long a party tries to serve its bridge network for the first time before it stops.
const bridgeGiveUp = time.Minute

// serveBridge serves a party's containers at the gateway address of their bridge network, on the port of
// listen, so that the party need not listen on all interfaces. It waits until that address exists, and
// follows it: "docker network prune" removes a network without containers, and the next one may have another
// address. If it can't serve the network at all, the party stops: its containers would run without it.
func (p *Party) serveBridge(ctx context.Context, docker *docker.Driver, listen string,
	server func() (func(net.Listener) error, func(context.Context) error)) {
	host, port, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || docker == nil || p.cfg.Runner.Docker.HostNetwork ||
		host == "" || ip != nil && ip.IsUnspecified() {
		return // containers reach the server of listen, which serves no more than this one would
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	serve, shutdown := server()
	b := &bridge{ensure: docker.EnsureNetwork, port: port, serve: serve, logger: p.logger,
		giveUpAt: time.Now().Add(bridgeGiveUp), fail: func(err error) { p.failed <- err }}
	b.update(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.follow(ctx)
	}()
	p.onStop(func(stopCtx context.Context) error {
		err := shutdown(stopCtx)
		cancel()
		<-done
		return err
	})
}

// bridge serves the current gateway address of a bridge network.
type bridge struct {
	ensure func(context.Context) (netip.Addr, error) // creates the network if it does not exist
	port   string
	serve  func(net.Listener) error
	logger *slog.Logger

	// fail is called once if no address could be served until giveUpAt.
	fail     func(error)
	giveUpAt time.Time

	gateway  netip.Addr
	listener net.Listener // nil until the first success
}

// follow updates the listener until ctx ends, and then closes it.
func (b *bridge) follow(ctx context.Context) {
	ticker := time.NewTicker(bridgeCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			if b.listener != nil {
				_ = b.listener.Close()
			}
			return
		case <-ticker.C:
			b.update(ctx)
		}
	}
}

// update listens on the gateway address if it has changed, and then closes the listener of the old address.
func (b *bridge) update(ctx context.Context) {
	gateway, err := b.ensure(ctx)
	if err == nil && gateway == b.gateway {
		return
	}
	var l net.Listener
	if err == nil {
		l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(gateway.String(), b.port))
	}
	switch {
	case ctx.Err() != nil:
		if l != nil {
			_ = l.Close()
		}
		return
	case err != nil && !b.gateway.IsValid():
		b.logger.Warn("failed to listen on the bridge network; containers can't reach this party yet",
			"port", b.port, "error", err)
		if b.fail != nil && time.Now().After(b.giveUpAt) {
			b.fail(fmt.Errorf("failed to serve containers at port %s of the bridge network: %w", b.port, err))
			b.fail = nil
		}
		return
	case err != nil:
		// Docker Engine may be away for a moment. The old address is served until a new one is known.
		b.logger.Warn("failed to check the address of the bridge network", "port", b.port, "error", err)
		return
	}
	if b.listener != nil {
		b.logger.Warn("the bridge network was created again; serving its new address",
			"port", b.port, "old_address", b.gateway, "new_address", gateway)
		_ = b.listener.Close()
	}
	b.gateway, b.listener = gateway, &onceListener{Listener: l}
	go b.run(ctx, b.listener)
}

func (b *bridge) run(ctx context.Context, l net.Listener) {
	err := b.serve(l)
	closed := ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed)
	if err != nil && !closed {
		b.logger.Error("failed to serve the bridge network; containers can't reach this party", "error", err)
	}
}

// onceListener is a listener that may be closed twice, first by a bridge and then by its server.
type onceListener struct {
	net.Listener
	once sync.Once
}

func (l *onceListener) Close() (err error) {
	l.once.Do(func() { err = l.Listener.Close() })
	return err
}
