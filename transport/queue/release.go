package queue

// ClearTopic drops the unread messages of one topic, or of all topics if topic is "", and wakes their readers
// with status.SessionReleased. The session stays usable: the next task of its job has the same session.
func (s *Session) ClearTopic(topic string) error {
	b := s.b
	b.mu.Lock()
	if err := b.refusal(s); err != nil {
		b.mu.Unlock()
		return err
	}
	var queues []*topicQueue
	for name, q := range s.queues {
		if topic == "" || topic == name {
			q.writers++
			queues = append(queues, q)
		}
	}
	b.mu.Unlock()

	for _, q := range queues {
		b.clearQueue(q)
	}
	return nil
}

// clearQueue records that all messages of a queue are consumed, and drops them.
func (b *Broker) clearQueue(q *topicQueue) {
	q.logMu.Lock()
	defer q.logMu.Unlock()

	b.mu.Lock()
	last := q.consumed
	if q.unread() > 0 {
		last = q.messages[len(q.messages)-1].seq
	} else if q.delivering != nil {
		last = max(last, q.delivering.seq)
	}
	changed := (last > q.consumed || q.redeliverable != nil) && !q.s.released
	b.mu.Unlock()

	if changed {
		b.recordConsumed(q, last, idKey{})
	}
	b.mu.Lock()
	q.consumed = last
	b.dropMessages(q, errTopicReleased(q))
	b.unlock()

	b.compact(q)
	b.mu.Lock()
	q.writers--
	b.removeIfUnused(q)
	b.unlock()
}
