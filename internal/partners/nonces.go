package partners

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"sync"
	"time"

	"hutong/bfia"
)

// Nonces remembers the nonces of signed requests; [hutong/store.Store] implements it for all API processes of
// a party.
type Nonces interface {
	// UseNonce records a nonce of a node. accepted is false if it was recorded before, unless for the same
	// request and request is not empty.
	UseNonce(ctx context.Context, node, nonce, request string) (accepted bool, err error)
}

// MemoryNonces remembers nonces in this process, for a transport that has no database. The zero value is
// ready.
type MemoryNonces struct {
	// For is how long nonces are remembered; 0 is 20 minutes.
	For time.Duration

	mu      sync.Mutex
	current map[[16]byte][16]byte
	former  map[[16]byte][16]byte
	began   time.Time // of current
}

const defaultMemory = 20 * time.Minute

// UseNonce implements [Nonces].
func (m *MemoryNonces) UseNonce(_ context.Context, node, nonce, request string) (bool, error) {
	key, what := hash16(node+"\n"+nonce), hash16(request)
	keep := m.For
	if keep == 0 {
		keep = defaultMemory
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	// Two generations: each lives for at least the time, and at most twice as long.
	if age := time.Since(m.began); m.current == nil || age > keep {
		m.former = m.current
		if age > 2*keep {
			m.former = nil
		}
		m.current, m.began = map[[16]byte][16]byte{}, time.Now()
	}
	for _, generation := range []map[[16]byte][16]byte{m.current, m.former} {
		if used, found := generation[key]; found {
			return request != "" && used == what, nil
		}
	}
	m.current[key] = what
	return true, nil
}

func hash16(text string) [16]byte {
	sum := sha256.Sum256([]byte(text))
	return [16]byte(sum[:16])
}

// useNonce records the nonce of a request, and refuses a replay.
func useNonce(r *http.Request, nonces Nonces, node, nonce, request string, replay error) error {
	accepted, err := nonces.UseNonce(r.Context(), node, nonce, request)
	if err != nil {
		cause := fmt.Errorf("failed to record a nonce of node %s: %w", node, err)
		return bfia.Wrap(bfia.CodeUnavailable, cause,
			"this party can't check now whether the request is a replay; retry later")
	}
	if !accepted {
		return replay
	}
	return nil
}
