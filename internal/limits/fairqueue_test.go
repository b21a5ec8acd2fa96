package limits

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFairQueueOrder serves the sessions round robin, and each of them in the order of arrival.
func TestFairQueueOrder(t *testing.T) {
	var q fairQueue
	names := map[*message]string{}
	push := func(session, name string) *message {
		m := q.push(session, 100)
		require.NotNil(t, m)
		names[m] = name
		return m
	}
	pop := func(n int) (got []string) {
		for range n {
			got = append(got, names[q.pop()])
		}
		return got
	}
	push("a", "a1")
	push("a", "a2")
	push("a", "a3")
	a4 := push("a", "a4")
	push("b", "b1")
	b2 := push("b", "b2")
	push("c", "c1")
	assert.Equal(t, []string{"a1", "b1"}, pop(2))
	push("b", "b3")
	push("d", "d1")
	assert.True(t, q.remove(b2))
	assert.False(t, q.remove(b2), "it has left")
	assert.Equal(t, []string{"c1", "a2", "b3", "d1", "a3"}, pop(5))
	assert.True(t, q.remove(a4))
	assert.Zero(t, q.length)
	assert.Empty(t, q.sessions)
	assert.Zero(t, q.order.Len())
}

// TestFairQueuePlaces fills a queue. No session takes the places of the others.
func TestFairQueuePlaces(t *testing.T) {
	var q fairQueue
	const places = 64
	count := func(session string) int {
		n := 0
		for q.push(session, places) != nil {
			n++
		}
		return n
	}
	assert.Equal(t, 32, count("greedy"), "as many as it leaves free")
	assert.Equal(t, 16, count("second"))
	admitted := 0
	for i := range 100 {
		if q.push(fmt.Sprint("modest", i), places) != nil {
			admitted++
		}
	}
	assert.Equal(t, 16, admitted)
	assert.Equal(t, places, q.length)
	q.pop()
	assert.Nil(t, q.push("greedy", places))
	assert.NotNil(t, q.push("another", places))
	assert.Nil(t, new(fairQueue).push("a", 0))
}

// TestFairQueueIsFair has many sessions with from 1 to 5 messages in the queue, of which some are cancelled.
// All sessions are served equally often.
func TestFairQueueIsFair(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var q fairQueue
	const sessions, rounds = 64, 20_000
	served := map[string]int{}
	waiting := map[string][]*message{}
	for i := range rounds {
		for s := range sessions {
			id := fmt.Sprint(s)
			for len(waiting[id]) < 1+s%5 { // it always has some
				m := q.push(id, MaxWaiting)
				require.NotNil(t, m)
				waiting[id] = append(waiting[id], m)
			}
			if own := waiting[id]; len(own) > 1 && rng.IntN(1000) == 0 {
				last := len(own) - 1
				require.True(t, q.remove(own[last]))
				waiting[id] = own[:last]
			}
		}
		m := q.pop()
		id := m.session.id
		require.Same(t, waiting[id][0], m, "in order of arrival, in round %d", i)
		waiting[id] = waiting[id][1:]
		served[id]++
	}
	for id, n := range served {
		assert.InDelta(t, rounds/sessions, n, 1, "session %s", id)
	}
}
