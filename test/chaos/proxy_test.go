package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// countingPartner counts the requests that reach it, and answers with the count, the path and the body.
type countingPartner struct {
	*httptest.Server
	got  atomic.Int64
	hold chan struct{} // answers wait until it is closed
}

func newCountingPartner(t *testing.T) *countingPartner {
	p := &countingPartner{hold: make(chan struct{})}
	close(p.hold)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n := p.got.Add(1)
		<-p.hold
		w.Header().Set("X-Asked", r.Header.Get("X-Ask"))
		w.WriteHeader(http.StatusAccepted)
		_, _ = fmt.Fprintf(w, "%d %s %s", n, r.URL.RequestURI(), body)
	}))
	t.Cleanup(p.Close)
	return p
}

func newTestProxy(t *testing.T,
	to *countingPartner) (*link, func(ctx context.Context, body string) (string, error)) {
	l := newLink()
	p, err := newProxy(l, to.URL, nil, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.server.Close() })
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return l, func(ctx context.Context, body string) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.addr+"/a%2Fb?c=d",
			strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("X-Ask", "yes")
		resp, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		require.Equal(t, http.StatusAccepted, resp.StatusCode)
		require.Equal(t, "yes", resp.Header.Get("X-Asked"))
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
}

func TestProxyForwards(t *testing.T) {
	to := newCountingPartner(t)
	l, ask := newTestProxy(t, to)
	answer, err := ask(t.Context(), "hello")
	require.NoError(t, err)
	require.Equal(t, "1 /a%2Fb?c=d hello", answer)
	require.Zero(t, l.clearFault())
}

func TestCut(t *testing.T) {
	to := newCountingPartner(t)
	l, ask := newTestProxy(t, to)
	l.setFault(faultCut)
	_, err := ask(t.Context(), "")
	require.Error(t, err)
	require.Zero(t, to.got.Load(), "a request was delivered through a cut link")
	require.Equal(t, 1, l.clearFault())
	_, err = ask(t.Context(), "")
	require.NoError(t, err)
}

// TestCutLosesAnswers checks that a cut also loses the answers to requests that were delivered before it.
func TestCutLosesAnswers(t *testing.T) {
	to := newCountingPartner(t)
	to.hold = make(chan struct{})
	l, ask := newTestProxy(t, to)
	failed := make(chan error, 1)
	go func() {
		_, err := ask(t.Context(), "")
		failed <- err
	}()
	require.Eventually(t, func() bool { return to.got.Load() == 1 }, time.Minute, time.Millisecond)
	l.setFault(faultCut)
	require.Error(t, <-failed, "the cut must end the request at once")
	close(to.hold)
}

func TestStall(t *testing.T) {
	to := newCountingPartner(t)
	l, ask := newTestProxy(t, to)
	l.setFault(faultStall)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := ask(ctx, "")
	require.ErrorIs(t, err, context.DeadlineExceeded, "a stalled link must not answer")
	failed := make(chan error, 1)
	go func() {
		_, err := ask(t.Context(), "")
		failed <- err
	}()
	require.Eventually(t, func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.hits == 2 },
		time.Minute, time.Millisecond)
	l.clearFault()
	require.Error(t, <-failed)
	require.Zero(t, to.got.Load())
}

func TestDuplicate(t *testing.T) {
	to := newCountingPartner(t)
	l, ask := newTestProxy(t, to)
	l.setFault(faultDuplicate)
	first, second := 0, 0
	for i := range 40 {
		answer, err := ask(t.Context(), "x")
		require.NoError(t, err)
		require.EqualValues(t, 2*(i+1), to.got.Load(), "each request must be delivered twice")
		switch answer {
		case fmt.Sprintf("%d /a%%2Fb?c=d x", 2*i+1):
			first++
		case fmt.Sprintf("%d /a%%2Fb?c=d x", 2*i+2):
			second++
		}
	}
	require.Equal(t, 40, first+second)
	require.Positive(t, first)
	require.Positive(t, second)
}

// TestDuplicateOfSigned checks that the sender of a signed request gets the answer to the first delivery, and
// that a second one that was not refused is recorded.
func TestDuplicateOfSigned(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusUnauthorized} {
		var got atomic.Int64
		to := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if got.Add(1)%2 == 0 {
				w.WriteHeader(status)
				return
			}
			_, _ = io.WriteString(w, "first")
		}))
		t.Cleanup(to.Close)
		l := newLink()
		l.signed = true
		p, err := newProxy(l, to.URL, nil, nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = p.server.Close() })
		l.setFault(faultDuplicate)
		for range 10 {
			resp, err := http.Post("http://"+p.addr+"/start", "", nil)
			require.NoError(t, err)
			answer, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, "first", string(answer))
		}
		require.EqualValues(t, 20, got.Load())
		if status == http.StatusOK {
			require.Equal(t, slices.Repeat([]string{"/start"}, 10), l.acceptedReplays())
		} else {
			require.Empty(t, l.acceptedReplays())
		}
	}
}

func TestLoseAnswers(t *testing.T) {
	to := newCountingPartner(t)
	l, ask := newTestProxy(t, to)
	l.setFault(faultLoseAnswers)
	lost := 0
	for range 40 {
		if _, err := ask(t.Context(), ""); err != nil {
			lost++
		}
	}
	require.EqualValues(t, 40, to.got.Load(), "all requests must be delivered")
	require.Positive(t, lost)
	require.Less(t, lost, 40)
}

// TestReorder checks that later requests overtake one that is held back.
func TestReorder(t *testing.T) {
	to := newCountingPartner(t)
	l, ask := newTestProxy(t, to)
	l.setFault(faultReorder)
	answers := make(chan string, 20)
	for i := range 20 {
		l.mu.Lock()
		before := l.hits
		l.mu.Unlock()
		go func() {
			answer, err := ask(t.Context(), fmt.Sprint(i))
			if err != nil {
				answer = err.Error()
			}
			answers <- answer
		}()
		require.Eventually(t, func() bool { l.mu.Lock(); defer l.mu.Unlock(); return l.hits > before },
			time.Minute, time.Millisecond)
	}
	inOrder := true
	for range 20 {
		var arrived, sent int
		_, err := fmt.Sscanf(<-answers, "%d /a%%2Fb?c=d %d", &arrived, &sent)
		require.NoError(t, err)
		inOrder = inOrder && arrived == sent+1
	}
	require.False(t, inOrder)
}
