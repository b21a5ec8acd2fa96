package channel_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong-reference/channel"
)

// transportProcess is a party's real transport, as a process. It restarts at the same address with the same
// spool folder.
type transportProcess struct {
	t                        *testing.T
	program, folder, address string
	command                  *exec.Cmd
	log                      logBuffer
}

// logBuffer collects what a process writes, also while a test reads it.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// newTransportProcess builds `hutong` from the sources that this module lies in and starts its transport.
func newTransportProcess(t *testing.T) *transportProcess {
	p := &transportProcess{t: t, program: filepath.Join(t.TempDir(), "hutong"), folder: t.TempDir()}
	build := exec.Command("go", "build", "-tags", "slim", "-o", p.program, "./cmd/hutong")
	build.Dir = filepath.Join("..", "..", "..")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "failed to build hutong: %s", out)

	p.address = stableAddress(t)

	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Log(p.log.String())
		}
	})
	p.start()
	return p
}

// stableAddress returns a free address that stays free while the transport is down. The kernel could give a
// port of its own range to any connection, even to one of those that wait for the transport.
func stableAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12_000+mathrand.IntN(10_000)))
		if err == nil {
			require.NoError(t, l.Close())
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

func (p *transportProcess) start() {
	p.command = exec.Command(p.program, "transport")
	p.command.Env = append(os.Environ(), "HUTONG_NODE_ID=node", "HUTONG_TRANSPORT_LISTEN="+p.address,
		"HUTONG_DATA_DIR="+p.folder, "HUTONG_LOG_LEVEL=warn",
		// A transport for another system's containers needs no database and no certificates.
		"HUTONG_TRANSPORT_SESSIONS=all", "HUTONG_SECURITY_MODE=open")
	p.command.Stdout, p.command.Stderr = &p.log, &p.log
	require.NoError(p.t, p.command.Start())
}

// kill ends the process without a chance to write anything, and breaks all its connections.
func (p *transportProcess) kill() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// pop asks the transport once for a message of a topic, without waiting, and returns the answer's code.
func (p *transportProcess) pop(topic string) (code string) {
	body := fmt.Sprintf(`{"topic":%q,"timeout":1}`, topic)
	req, err := http.NewRequest(
		http.MethodPost, "http://"+p.address+"/v1/interconn/chan/pop", strings.NewReader(body),
	)
	require.NoError(p.t, err)
	for name, value := range map[string]string{
		"Content-Type": "application/json", "x-ptp-tech-provider-code": "TEST", "x-ptp-trace-id": "trace",
		"x-ptp-token": "token", "x-ptp-session-id": "session", "x-ptp-source-node-id": "node",
		"x-ptp-target-node-id": "node", "x-ptp-message-id": rand.Text(),
	} {
		req.Header.Set(name, value)
	}

	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer func() { _ = resp.Body.Close() }()
	var answer struct{ Code string }
	require.NoError(p.t, json.NewDecoder(resp.Body).Decode(&answer))
	return answer.Code
}

// TestTransportRestarts kills a real transport again and again in the middle of a conversation. Neither side
// notices.
func TestTransportRestarts(t *testing.T) {
	p := newTransportProcess(t)
	open := func(self, partner string) (*channel.Link, context.Context) {
		link, ctx, err := channel.Open(t.Context(), channel.Config{
			Transport: p.address, SessionID: "session", TaskID: "task", TraceID: "trace", Token: "token",
			Self: self, SelfNode: "node", Partner: partner, PartnerNode: "node",
		})
		require.NoError(t, err)
		return link, ctx
	}

	var e ends
	e.guest, e.guestCtx = open("guest.0", "host.0")
	e.host, e.hostCtx = open("host.0", "guest.0")

	var passed atomic.Int64
	var enough atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for salt := byte(1); !enough.Load() && !t.Failed(); salt++ {
			e.talk(t, salt, func() { passed.Add(1) })
		}
	}()

	for range 4 {
		// At least one message passes between two restarts.
		before := passed.Load()
		require.Eventually(
			t, func() bool { return passed.Load() > before || t.Failed() }, time.Minute, time.Millisecond,
		)
		p.kill()
		p.start()
	}

	enough.Store(true)
	<-done

	e.guest.Close()
	e.host.Close()
	for _, topic := range []string{
		"guest.0/host.0/data", "host.0/guest.0/data", "guest.0/host.0/abort", "host.0/guest.0/abort",
	} {
		require.Equal(t, "E0000000601", p.pop("task/"+topic), "a message is left in %s", topic)
	}
}
