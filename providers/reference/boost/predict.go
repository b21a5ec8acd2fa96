package boost

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"

	"hutong-reference/channel"
	"hutong-reference/component"
	"hutong-reference/outputs"
)

// PredictName is the component that applies a model of HeteroSecureBoost to other rows.
const PredictName = name + "_predict"

// PredictParameters lists the parameters that the component reads, PredictInputs and PredictOutputs the names
// of the data that it reads and writes.
var (
	PredictParameters = []string{"id", "label", "predict_param", "metrics"}
	PredictInputs     = []string{"model", "test_data"}
	PredictOutputs    = outputs.OfPrediction
)

// predictBatch bounds the row numbers in one request: trees are evaluated in groups of that many rows.
const predictBatch = 1 << 24

// Operations of a predictRequest.
const (
	opPredict = "predict"
	opRoute   = "route"
)

// predictRequest is the head of the guest's messages. The body of route holds the row numbers of all nodes.
// The body of its answer has one bit per row, as that of split.
type predictRequest struct {
	Op    string        `json:"op"`
	Setup *predictSetup `json:"setup,omitempty"`
	Nodes []int         `json:"nodes,omitempty"`  // number of rows of each node
	Split []int         `json:"splits,omitempty"` // of each node: the number of its split in the host's model
}

// predictSetup opens the prediction. Both parties must have the same rows, and parts of the same model.
type predictSetup struct {
	Version   int    `json:"version"`
	Rows      int    `json:"rows"`
	RowDigest []byte `json:"row_digest"`
	Splits    int    `json:"splits"` // of this host in the guest's part of the model
}

// Predict applies a trained model to the rows of the parties. The guest's output predictions holds id, label
// if there is one, predict_score and predict_result of each row. A host's holds only the ids.
func Predict(ctx context.Context, task component.Task, store component.Store, peers component.Peers) error {
	r := component.NewReader(task.Parameters)
	p := outputs.ReadPredictParams(r)
	if err := r.Err(); err != nil {
		return channel.Errorf("%v", err)
	}
	address, err := task.Input("model")
	if err != nil {
		return channel.Errorf("%v", err)
	}
	table, ids, err := outputs.ReadRows(ctx, task, store, "test_data", p.ID)
	if err != nil {
		return err
	}
	if len(ids) > maxRows {
		return channel.Errorf("input test_data has %d rows; at most %d are supported", len(ids), maxRows)
	}
	out := outputs.NewWriter(ctx, task, store)
	if task.Self.Role == "guest" {
		var m Model
		if err := component.ReadJSON(ctx, store, address, &m); err != nil {
			return err
		}
		err = predictGuest(ctx, task, m, table, ids, p, peers, out)
	} else {
		var m HostModel
		if err := component.ReadJSON(ctx, store, address, &m); err != nil {
			return err
		}
		err = predictHost(ctx, task, m, table, ids, p, peers, out)
	}
	if err != nil {
		return err
	}
	return out.Err()
}

func predictGuest(ctx context.Context, task component.Task, m Model, table *component.Table, ids []string,
	p outputs.PredictParams, peers component.Peers, out *outputs.Writer) error {
	self := task.Self.String()
	if m.Component != name || m.Role != self {
		return channel.Errorf("input model: is of %s at %s; %s at %s needs that of %s at the same role",
			m.Component, m.Role, task.Component, self, name)
	}
	labels, err := p.Labels(table)
	if err != nil {
		return err
	}
	hosts, err := task.RequireParties("host")
	if err != nil {
		return err
	}
	e := evaluation{model: m, rows: len(ids), routers: map[string]router{}}
	counts, err := m.check(self)
	if err != nil {
		return channel.Errorf("input model: %v", err)
	}
	if e.routers[self], err = newLocalRouter(table, m.usedFeatures(self)); err != nil {
		return err
	}
	for _, h := range hosts {
		r := remoteRouter{peer: peers[h.String()], owner: h.String()}
		if err := r.open(ctx, ids, counts[h.String()]); err != nil {
			return err
		}
		e.routers[h.String()] = r
		delete(counts, h.String())
	}
	for owner, n := range counts {
		if owner != self && n > 0 {
			return channel.Errorf("input model: has splits of %s, which has no part in this task", owner)
		}
	}

	scores, err := e.scores(ctx)
	if err != nil {
		return err
	}
	for _, r := range e.routers {
		if remote, ok := r.(remoteRouter); ok {
			if err := remote.end(ctx); err != nil {
				return err
			}
		}
	}
	for i := range scores {
		scores[i] = sigmoid(scores[i])
	}
	out.Scores(p, ids, labels, scores)
	slog.Info("predicted", "rows", len(ids), "trees", len(m.Trees))
	return nil
}

func predictHost(ctx context.Context, task component.Task, m HostModel, table *component.Table, ids []string,
	p outputs.PredictParams, peers component.Peers, out *outputs.Writer) error {
	self := task.Self.String()
	if m.Component != name || m.Role != self {
		return channel.Errorf("input model: is of %s at %s; %s at %s needs that of %s at the same role",
			m.Component, m.Role, task.Component, self, name)
	}
	guest, err := task.OnlyParty("guest")
	if err != nil {
		return err
	}
	h := predictor{peer: peers[guest.String()], model: m}
	var features []string
	for _, s := range m.Splits {
		features = append(features, s.Feature)
	}
	if h.columns, err = outputs.NumericColumns(table, features); err != nil {
		return err
	}
	if err := h.serve(ctx, ids); err != nil {
		return err
	}
	only, err := table.OnlyColumn(p.ID)
	if err != nil {
		return err
	}
	out.Table("predictions", "ids of the predicted rows", only)
	out.MarkersOf(outputs.PredictReports, "the guest has this report")
	return nil
}

// check checks the form of a model, and returns how many splits each host has in it. Each node refers to
// later ones, so evaluations end.
func (m Model) check(self string) (splits map[string]int, err error) {
	splits = map[string]int{}
	for t, tree := range m.Trees {
		if tree == nil || len(tree.Nodes) == 0 {
			return nil, fmt.Errorf("tree %d has no nodes", t)
		}
		for n, node := range tree.Nodes {
			r := node.Rule
			if r == nil {
				continue
			}
			if node.Left <= n || node.Right <= n || node.Left >= len(tree.Nodes) ||
				node.Right >= len(tree.Nodes) {
				return nil, fmt.Errorf("tree %d: node %d refers to an invalid position", t, n)
			}
			if own := r.Owner == self; own != (r.Threshold != nil) || own == (r.Split != nil) {
				return nil, fmt.Errorf("tree %d: node %d has no complete rule", t, n)
			}
			if r.Split != nil {
				splits[r.Owner]++
			}
		}
	}
	return splits, nil
}

// usedFeatures returns the features of the own rules.
func (m Model) usedFeatures(self string) (names []string) {
	for _, tree := range m.Trees {
		for _, n := range tree.Nodes {
			if n.Rule != nil && n.Rule.Owner == self {
				names = append(names, n.Rule.Feature)
			}
		}
	}
	return names
}

// visit holds the rows that reach a node of a tree.
type visit struct {
	tree, node int
	rows       []int32
}

// router decides for the rows at some nodes, all of its party's rules, which go left.
type router interface {
	route(ctx context.Context, rules []*Rule, at []visit) ([]bitset, error)
}

// evaluation moves rows down the trees of a model.
type evaluation struct {
	model   Model
	rows    int
	routers map[string]router // by the owner of the rules
}

// scores returns the score of each row: the sum of the weights of its leaves, in the order of the trees.
func (e evaluation) scores(ctx context.Context) ([]float64, error) {
	scores := make([]float64, e.rows)
	all := make([]int32, e.rows)
	for i := range all {
		all[i] = int32(i)
	}
	group := max(1, predictBatch/max(1, e.rows))
	for from := 0; from < len(e.model.Trees); from += group {
		to := min(from+group, len(e.model.Trees))
		weights := make([][]float64, to-from) // by tree and row, so that sums have the order of the training
		var level []visit
		for t := from; t < to; t++ {
			weights[t-from] = make([]float64, e.rows)
			level = append(level, visit{tree: t, rows: all})
		}
		for len(level) > 0 {
			next, err := e.descend(ctx, level, func(tree int, row int32, weight float64) {
				weights[tree-from][row] = weight
			})
			if err != nil {
				return nil, err
			}
			level = next
		}
		for _, ofTree := range weights {
			for i, w := range ofTree {
				scores[i] += w
			}
		}
	}
	return scores, nil
}

// descend moves rows one level down, and reports the weights of the leaves among the nodes.
func (e evaluation) descend(ctx context.Context, level []visit,
	leaf func(tree int, row int32, weight float64)) ([]visit, error) {
	byOwner := map[string][]visit{}
	rules := map[string][]*Rule{}
	var owners []string
	for _, v := range level {
		node := e.model.Trees[v.tree].Nodes[v.node]
		if node.Rule == nil {
			for _, row := range v.rows {
				leaf(v.tree, row, node.Weight)
			}
			continue
		}
		owner := node.Rule.Owner
		if byOwner[owner] == nil {
			owners = append(owners, owner)
		}
		byOwner[owner], rules[owner] = append(byOwner[owner], v), append(rules[owner], node.Rule)
	}

	var next []visit
	for _, owner := range owners {
		left, err := e.routers[owner].route(ctx, rules[owner], byOwner[owner])
		if err != nil {
			return nil, err
		}
		for i, v := range byOwner[owner] {
			node := e.model.Trees[v.tree].Nodes[v.node]
			sides := [2]visit{{tree: v.tree, node: node.Left}, {tree: v.tree, node: node.Right}}
			for j, row := range v.rows {
				side := &sides[1]
				if left[i].has(j) {
					side = &sides[0]
				}
				side.rows = append(side.rows, row)
			}
			for _, s := range sides {
				if len(s.rows) > 0 {
					next = append(next, s)
				}
			}
		}
	}
	return next, nil
}

// localRouter decides by the own features.
type localRouter struct{ columns map[string][]float64 }

func newLocalRouter(table *component.Table, features []string) (localRouter, error) {
	columns, err := outputs.NumericColumns(table, features)
	return localRouter{columns}, err
}

func (l localRouter) route(_ context.Context, rules []*Rule, at []visit) ([]bitset, error) {
	var left []bitset
	for i, r := range rules {
		left = append(left, routeRows(l.columns[r.Feature], *r.Threshold, at[i].rows))
	}
	return left, nil
}

// routeRows reports which rows go left: those whose value is at most the threshold.
func routeRows(values []float64, threshold float64, rows []int32) bitset {
	left := newBitset(len(rows))
	for j, row := range rows {
		if values[row] <= threshold {
			left.set(j)
		}
	}
	return left
}

// remoteRouter asks a host.
type remoteRouter struct {
	peer  Peer
	owner string // "host.0"
}

func (r remoteRouter) open(ctx context.Context, ids []string, splits int) error {
	_, err := r.call(ctx, predictRequest{Op: opPredict, Setup: &predictSetup{Version: protocolVersion,
		Rows: len(ids), RowDigest: component.DigestIDs(ids), Splits: splits}}, nil)
	return err
}

func (r remoteRouter) call(ctx context.Context, req predictRequest, body []byte) ([]byte, error) {
	if err := r.peer.Send(ctx, stepRequest, req, body); err != nil {
		return nil, err
	}
	return r.peer.Receive(ctx, stepAnswer, &struct{}{})
}

func (r remoteRouter) route(ctx context.Context, rules []*Rule, at []visit) ([]bitset, error) {
	req := predictRequest{Op: opRoute}
	var nodes [][]int32
	for i, rule := range rules {
		req.Split, nodes = append(req.Split, *rule.Split), append(nodes, at[i].rows)
	}
	var body []byte
	req.Nodes, body = encodeRows(nodes)
	body, err := r.call(ctx, req, body)
	if err != nil {
		return nil, err
	}
	var left []bitset
	for _, rows := range nodes {
		size := len(newBitset(len(rows)))
		if len(body) < size {
			return nil, channel.Errorf("directions of %s: the answer is too short", r.owner)
		}
		left, body = append(left, bitset(body[:size])), body[size:]
	}
	return left, nil
}

func (r remoteRouter) end(ctx context.Context) error {
	return r.peer.Send(ctx, stepRequest, predictRequest{Op: opEnd}, nil)
}

// predictor answers the guest's requests about the host's own splits.
type predictor struct {
	peer    Peer
	model   HostModel
	columns map[string][]float64
}

// serve answers requests until the guest ends the prediction.
func (h predictor) serve(ctx context.Context, ids []string) error {
	for open := false; ; {
		var req predictRequest
		body, err := h.peer.Receive(ctx, stepRequest, &req)
		if err != nil {
			return err
		}
		var out []byte
		switch {
		case req.Op == opPredict && !open && req.Setup != nil:
			open, err = true, h.check(*req.Setup, ids)
		case req.Op == opRoute && open:
			out, err = h.route(req, body, len(ids))
		case req.Op == opEnd:
			return nil
		default:
			err = channel.Errorf("the guest sent an unexpected request %q", req.Op)
		}
		if err != nil {
			return err
		}
		if err := h.peer.Send(ctx, stepAnswer, struct{}{}, out); err != nil {
			return err
		}
	}
}

// check compares rows and model with the guest's.
func (h predictor) check(s predictSetup, ids []string) error {
	switch {
	case s.Version != protocolVersion:
		return channel.Errorf(
			"the guest runs version %d of this algorithm's protocol, but the host runs version %d", s.Version,
			protocolVersion,
		)
	case s.Splits != len(h.model.Splits):
		return channel.Errorf(
			"the models of guest and host are not of one training: the guest's has %d splits of the host, "+
				"the host's has %d", s.Splits, len(h.model.Splits),
		)
	case s.Rows != len(ids) || !bytes.Equal(s.RowDigest, component.DigestIDs(ids)):
		return channel.Errorf(
			"the rows of guest and host (%d and %d) do not have the same ids in the same order; "+
				"run Intersection first",
			s.Rows, len(ids),
		)
	}
	return nil
}

func (h predictor) route(req predictRequest, body []byte, total int) (out []byte, err error) {
	nodes, err := decodeRows(req.Nodes, body, total)
	if err == nil && len(nodes) != len(req.Split) {
		err = fmt.Errorf("received %d splits for %d nodes", len(req.Split), len(nodes))
	}
	if err != nil {
		return nil, channel.Errorf("request of the guest: %v", err)
	}
	for i, number := range req.Split {
		if number < 0 || number >= len(h.model.Splits) {
			return nil, channel.Errorf("request of the guest: number %d names an unknown split", i)
		}
		s := h.model.Splits[number]
		out = append(out, routeRows(h.columns[s.Feature], s.Threshold, nodes[i])...)
	}
	return out, nil
}
