package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
	"hutong/internal/limits"
)

// namedClients is an authenticator of clients that are whom the header "user" names.
func namedClients(c *fiber.Ctx) (identity.Principal, error) {
	name := c.Get("user")
	if name == "" {
		return identity.Principal{}, bfia.Errorf(bfia.CodeUnauthenticated, "no user")
	}
	return identity.Principal{Kind: identity.KindClient, Name: name, Roles: []identity.Role{identity.Admin}},
		nil
}

// callers sends the requests of these tests. A test closes its connections, which a server that shuts down
// would wait for.
var callers = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}

// as sends a request as a user.
func (p *party) as(user, method, path, contentType string, body io.Reader) (*http.Response, bfia.Code) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, "http://"+p.address+path, body)
	require.NoError(p.t, err)
	r.Header.Set("user", user)
	r.Header.Set("Content-Type", contentType)
	response, err := callers.Do(r)
	require.NoError(p.t, err)
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	require.NoError(p.t, err)
	var envelope struct{ Code bfia.Code }
	_ = json.Unmarshal(content, &envelope)
	return response, envelope.Code
}

// TestFloodOfOneClient has one client flood the API of a party. The answers say when to try again; another
// client's requests are all served.
func TestFloodOfOneClient(t *testing.T) {
	p := newParty(t, func(c *Config) {
		c.Clients, c.Callers = namedClients, limits.New(limits.Config{Requests: 20, Burst: 10})
	})
	t.Cleanup(callers.CloseIdleConnections)
	const path = bfia.PathPlatformJobList
	stop := make(chan struct{})
	var flood sync.WaitGroup
	var refused, served atomic.Int64
	began := time.Now()
	for range 8 {
		flood.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				response, code := p.as("mallory", http.MethodGet, path, "", nil)
				switch response.StatusCode {
				case http.StatusTooManyRequests:
					refused.Add(1)
					assert.Equal(t, bfia.CodeTooMany, code)
					seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
					assert.NoError(t, err)
					assert.Positive(t, seconds)
				default:
					served.Add(1)
				}
			}
		})
	}
	for range 9 { // within her burst
		before := refused.Load()
		response, _ := p.as("alice", http.MethodGet, path, "", nil)
		require.NotEqual(t, http.StatusTooManyRequests, response.StatusCode)
		require.Eventually(t, func() bool { return refused.Load() >= before+10 }, time.Minute,
			time.Millisecond, "the flood continues")
	}
	close(stop)
	flood.Wait()
	lasted := time.Since(began).Seconds()
	assert.Greater(t, refused.Load(), served.Load())
	assert.LessOrEqual(t, float64(served.Load()), 10+20*(lasted+1))

	response, _ := p.as("", http.MethodGet, path, "", nil)
	require.Equal(t, http.StatusUnauthorized, response.StatusCode)
	require.Eventually(t, func() bool { // an unknown caller may not guess without end either
		response, _ := p.as("", http.MethodGet, path, "", nil)
		return response.StatusCode == http.StatusTooManyRequests
	}, time.Minute, time.Millisecond)
	response, _ = p.as("alice", http.MethodGet, path, "", nil)
	require.NotEqual(t, http.StatusTooManyRequests, response.StatusCode, "nor harm others of the address")
}

// TestUploadsOfOneClient bounds what a client uploads in a day, whatever length it announces.
func TestUploadsOfOneClient(t *testing.T) {
	p := newParty(t, func(c *Config) {
		c.Clients, c.Callers = namedClients, limits.New(limits.Config{UploadBytes: 1 << 20, Uploads: 2})
	})
	upload := func(user string, rows int) (*http.Response, bfia.Code) {
		var form bytes.Buffer
		w := multipart.NewWriter(&form)
		for name, value := range map[string]string{"partitions": "1",
			"namespace": "n", "name": fmt.Sprintf("%s%d", user, rows)} {
			require.NoError(t, w.WriteField(name, value))
		}
		file, err := w.CreateFormFile("file", "x.csv")
		require.NoError(t, err)
		_, err = io.WriteString(file, "id,x\n"+strings.Repeat("123456789,1234567\n", rows))
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return p.as(user, http.MethodPost, bfia.PathComponentFile, w.FormDataContentType(),
			io.MultiReader(&form)) // without a length
	}
	_, code := upload("alice", 40_000)
	require.NotEqual(t, bfia.CodeTooMany, code)
	response, code := upload("alice", 40_000)
	require.Equal(t, bfia.CodeTooMany, code)
	require.Equal(t, http.StatusTooManyRequests, response.StatusCode)
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.Greater(t, seconds, 23*3600)
	_, code = upload("bob", 40_000)
	require.NotEqual(t, bfia.CodeTooMany, code)
}

// TestOpenJobsOfOneClient has a client submit more jobs at once than it may have open. The answers name the
// limit and say when to try again, and another client's job is accepted.
func TestOpenJobsOfOneClient(t *testing.T) {
	p := newParty(t, func(c *Config) {
		c.OpenJobs = 3
		c.Clients = func(c *fiber.Ctx) (identity.Principal, error) {
			if c.Get("user") == "" {
				return OpenClients(c)
			}
			return namedClients(c)
		}
	}).withProvider().withData()
	t.Cleanup(callers.CloseIdleConnections)
	submit := func(user, id string) (*http.Response, bfia.Code) {
		return p.as(user, http.MethodPost, bfia.PathPlatformCreateAll, "application/json",
			strings.NewReader(job(t, id)))
	}
	var accepted atomic.Int64
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			response, code := submit("alice", fmt.Sprint("a", i))
			if code == bfia.CodeOK {
				accepted.Add(1)
				return
			}
			assert.Equal(t, bfia.CodeTooMany, code)
			assert.Equal(t, http.StatusTooManyRequests, response.StatusCode)
			assert.Equal(t, "60", response.Header.Get("Retry-After"))
		})
	}
	all.Wait()
	require.EqualValues(t, 3, accepted.Load())
	require.Len(t, p.engine.started(), 3)
	_, code := submit("bob", "b1")
	require.Equal(t, bfia.CodeOK, code)
	var refusals int
	for _, e := range p.trail() {
		if e.Outcome == audit.Refused && e.Name == "alice" {
			require.Contains(t, e.Reason, "client alice has 3 open jobs, and may have 3 (limits.open_jobs of")
			refusals++
		}
	}
	require.Equal(t, 7, refusals)
}
