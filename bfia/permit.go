package bfia

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The paths of the grants of datasets between parties (part 1, 4.3 to 4.6).
const (
	PathDatasetApply     = "/v1/interconn/dataset/audit/apply"     // 4.3
	PathDatasetConfirm   = "/v1/interconn/dataset/audit/confirm"   // 4.4
	PathDatasetTerminate = "/v1/interconn/dataset/audit/terminate" // 4.5
	PathDatasetQuery     = "/v1/interconn/dataset/audit/query"     // 4.6

	// For administrators of a party; Hutong's additions.
	PathGrantRequest   = "/v2/grant/request"
	PathGrantRequests  = "/v2/grant/requests"
	PathGrantApprove   = "/v2/grant/approve"
	PathGrantDeny      = "/v2/grant/deny"
	PathGrantTerminate = "/v2/grant/terminate"
)

// RequestState is the state of a request for a grant (4.6).
type RequestState string

// The states of a request.
const (
	RequestApplied    RequestState = "APPLIED"
	RequestApproved   RequestState = "APPROVED"
	RequestRejected   RequestState = "REJECTED"
	RequestTerminated RequestState = "TERMINATED"
)

// The keys of [DatasetApplication.AuthScope].
const (
	scopeNode      = "NODE"
	scopeProject   = "PROJECT"
	scopeComponent = "COMPONENT"
)

const (
	maxScope     = 32
	maxTokenSet  = 16 << 10
	maxToken     = 512
	maxResource  = 400
	maxTimeLimit = math.MaxInt64 / int64(time.Millisecond)
)

// DatasetApplication asks a party for a grant of a dataset (4.3).
type DatasetApplication struct {
	// AuditID names the request. The asker chooses it.
	AuditID string `json:"audit_id"`
	// AuthScope limits the grant: to components under COMPONENT. Without that it is for all components.
	AuthScope  map[string][]string `json:"auth_scope,omitempty"`
	ContractID string              `json:"contract_id"`
	DatasetID  string              `json:"dataset_id"`
	// TimeLimit is the end of the grant in Unix milliseconds; 0 is none.
	TimeLimit int64 `json:"time_limit,omitempty"`
	// TimesLimit is how many jobs may use the grant; 0 is any number.
	TimesLimit int `json:"times_limit,omitempty"`
}

// DatasetConfirmation accepts or rejects a [DatasetApplication] (4.4).
type DatasetConfirmation struct {
	AuditID string          `json:"audit_id"`
	Status  RequestState    `json:"status"`
	Permit  *ResourcePermit `json:"resource_permit,omitempty"`
}

// ResourcePermit proves a grant to the party that gave it (4.4).
type ResourcePermit struct {
	// Token is known to the two parties only. The giver keeps its hash.
	Token          string `json:"token"`
	ResourceLevel  int    `json:"resource_level"`
	ResourceType   string `json:"resource_type"`
	ResourceID     string `json:"resource_id"`
	ResourceNodeID string `json:"resource_node_id"`
	ResourceInstID string `json:"resource_inst_id"`
	RequestNodeID  string `json:"request_node_id"`
	RequestInstID  string `json:"request_inst_id"`
	TimeLimit      int64  `json:"time_limit,omitempty"`
	TimesLimit     int    `json:"times_limit,omitempty"`
}

// DatasetRequestRef names a request (4.5, 4.6).
type DatasetRequestRef struct {
	AuditID string `json:"audit_id"`
}

// DatasetRequestStatus is the state of a request (4.6's answer).
type DatasetRequestStatus struct {
	Status RequestState `json:"status"`
}

// ResourceDataset and PermitLevel are the resource_type and resource_level of this party's permits.
const (
	ResourceDataset = "DATASET"
	PermitLevel     = 1
)

var (
	datasetPattern = regexp.MustCompile(
		`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}#[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)
	componentPattern = regexp.MustCompile(
		`^([A-Za-z0-9_.-]{1,128}(:[A-Za-z0-9_.-]{1,128})?/)?[A-Za-z0-9_.-]{1,128}$`)
	tokenPattern    = regexp.MustCompile(`^[!-+\--~]+$`) // visible ASCII without commas
	resourcePattern = regexp.MustCompile(`^[!-+\-.0-~]+$`)
)

// Check returns an error that names the field which is wrong in an application of a party.
func (a *DatasetApplication) Check(asker string, now time.Time) error {
	if err := CheckID("audit_id", a.AuditID); err != nil {
		return err
	}
	if err := CheckID("contract_id", a.ContractID); err != nil {
		return err
	}
	if !datasetPattern.MatchString(a.DatasetID) {
		return Errorf(CodeBadRequest, "dataset_id: %.100q must be a dataset such as namespace#name",
			a.DatasetID)
	}
	for _, key := range slices.Sorted(maps.Keys(a.AuthScope)) {
		ids := a.AuthScope[key]
		if len(ids) == 0 || len(ids) > maxScope {
			return Errorf(CodeBadRequest, "auth_scope.%.20s: must have from 1 to %d entries", key, maxScope)
		}
		switch key {
		case scopeNode:
			if len(ids) != 1 || ids[0] != asker {
				return Errorf(CodeBadRequest,
					"auth_scope.NODE: must be %s, which applies; each node applies "+
						"for itself", asker)
			}
		case scopeComponent:
			for i, id := range ids {
				if !componentPattern.MatchString(id) {
					return Errorf(CodeBadRequest,
						"auth_scope.COMPONENT[%d]: %.100q must be a component such as "+
							"HeteroLR, unionpay/HeteroLR or unionpay:2.0.0/HeteroLR", i, id)
				}
			}
		case scopeProject:
			return Errorf(CodeBadRequest, "auth_scope.PROJECT: is not supported; name components")
		default:
			return Errorf(CodeBadRequest, "auth_scope: %.20q must be NODE or COMPONENT", key)
		}
	}
	return checkPermitLimits(a.TimeLimit, a.TimesLimit, now)
}

func checkPermitLimits(end int64, times int, now time.Time) error {
	if end < 0 || end > maxTimeLimit || end > 0 && end <= now.UnixMilli() {
		return Errorf(CodeBadRequest, "time_limit: %d must be a time to come in Unix milliseconds, or 0", end)
	}
	if times < 0 || times > maxGrantTimes {
		return Errorf(CodeBadRequest, "times_limit: must be from 1 to %d, or 0 for any number of jobs",
			maxGrantTimes)
	}
	return nil
}

// Components returns the components to which the application is limited, sorted; * for all.
func (a *DatasetApplication) Components() []string {
	components := slices.Clone(a.AuthScope[scopeComponent])
	if len(components) == 0 {
		return []string{"*"}
	}
	slices.Sort(components)
	return slices.Compact(components)
}

// NewDatasetApplication returns an application for a dataset, limited to components if there are any.
func NewDatasetApplication(auditID, contractID, dataset string, components []string, until *time.Time,
	times int) DatasetApplication {
	a := DatasetApplication{AuditID: auditID, ContractID: contractID, DatasetID: dataset, TimesLimit: times}
	if len(components) > 0 {
		a.AuthScope = map[string][]string{scopeComponent: components}
	}
	if until != nil {
		a.TimeLimit = until.UnixMilli()
	}
	return a
}

// Check returns an error that names the field which is wrong in a decision of giver about a request of asker
// for a dataset.
func (c *DatasetConfirmation) Check(giver, asker, dataset string) error {
	const field = "resource_permit"
	switch c.Status {
	case RequestRejected:
		return nil
	case RequestApproved:
	default:
		return Errorf(CodeBadRequest, "status: must be APPROVED or REJECTED, but is %.100q", string(c.Status))
	}
	p := c.Permit
	if p == nil {
		return Errorf(CodeBadRequest, "%s: is required", field)
	}
	for _, f := range []struct{ name, value, want string }{{"resource_id", p.ResourceID, dataset},
		{"resource_node_id", p.ResourceNodeID, giver}, {"request_node_id", p.RequestNodeID, asker}} {
		if f.value != f.want {
			return Errorf(CodeBadRequest, "%s.%s: is %.100q, but must be %s", field, f.name, f.value, f.want)
		}
	}
	if err := CheckID(field+".resource_type", p.ResourceType); err != nil {
		return err
	}
	if p.TimesLimit < 0 || p.TimeLimit < 0 || p.TimeLimit > maxTimeLimit {
		return Errorf(CodeBadRequest, "%s: time_limit and times_limit can't be negative", field)
	}
	return PrefixField(field, p.Permit().check())
}

// Permit returns the permit as jobs present it.
func (p ResourcePermit) Permit() Permit {
	return Permit{Resource: PermitResource(p.ResourceNodeID, p.ResourceType, p.ResourceID),
		Level: p.ResourceLevel, Token: p.Token}
}

// Permit is a permit in the header x-mprac-token-set (part 1, 2.2 and part 2, 2.2).
type Permit struct {
	Resource string // see [PermitResource]
	Level    int
	Token    string
}

// PermitResource returns the uniform name of a resource of a node.
func PermitResource(node, resourceType, id string) string {
	return node + ":" + resourceType + ":" + id
}

// Node returns the node whose resource it is.
func (p Permit) Node() string {
	node, _, _ := strings.Cut(p.Resource, ":")
	return node
}

func (p Permit) check() error {
	if len(p.Resource) > maxResource || !resourcePattern.MatchString(p.Resource) {
		return Errorf(CodeBadRequest, "resource: must be visible ASCII without '/' and ',', at most %d "+
			"characters", maxResource)
	}
	if err := CheckID("resource: node", p.Node()); err != nil {
		return err
	}
	if p.Level < 0 || p.Level > math.MaxInt32 {
		return Errorf(CodeBadRequest, "resource_level: must be from 0 to %d", math.MaxInt32)
	}
	if len(p.Token) > maxToken || !tokenPattern.MatchString(p.Token) {
		return Errorf(CodeBadRequest, "token: must be visible ASCII without ',', at most %d characters",
			maxToken)
	}
	return nil
}

// ParseTokenSet parses the header x-mprac-token-set: resource/level/token, separated by commas. An empty
// header has no permits. Its errors never quote the header, which holds secrets.
func ParseTokenSet(text string) ([]Permit, error) {
	if text == "" {
		return nil, nil
	}
	if len(text) > maxTokenSet {
		return nil, Errorf(CodeTooLarge, "%s: is longer than %d bytes", HeaderTokenSet, maxTokenSet)
	}
	var permits []Permit
	seen := map[string]bool{}
	for i, tuple := range strings.Split(text, ",") {
		place := fmt.Sprintf("%s[%d]", HeaderTokenSet, i)
		parts := strings.SplitN(tuple, "/", 3)
		if len(parts) != 3 {
			return nil, Errorf(CodeBadRequest, "%s: must be resource/level/token", place)
		}
		level, err := strconv.ParseInt(parts[1], 10, 32)
		if err != nil || strconv.FormatInt(level, 10) != parts[1] {
			return nil, Errorf(CodeBadRequest, "%s: the level must be a number", place)
		}
		p := Permit{Resource: parts[0], Level: int(level), Token: parts[2]}
		if err := p.check(); err != nil {
			return nil, PrefixPlace(place, err)
		}
		if seen[tuple] {
			return nil, Errorf(CodeBadRequest, "%s: is given twice", place)
		}
		seen[tuple] = true
		permits = append(permits, p)
	}
	return permits, nil
}

// FormatTokenSet returns the header x-mprac-token-set with permits. It leaves out those that would make
// the header too long.
func FormatTokenSet(permits []Permit) string {
	var b strings.Builder
	for _, p := range permits {
		tuple := p.Resource + "/" + strconv.Itoa(p.Level) + "/" + p.Token
		if b.Len()+1+len(tuple) > maxTokenSet {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(tuple)
	}
	return b.String()
}

// PermitsFor returns the permits of a node's resources.
func PermitsFor(node string, permits []Permit) []Permit {
	var own []Permit
	for _, p := range permits {
		if p.Node() == node {
			own = append(own, p)
		}
	}
	return own
}

// GrantAsk asks this party to request a grant of a partner.
type GrantAsk struct {
	Partner    string     `json:"partner"`
	Dataset    string     `json:"dataset"`
	Components []string   `json:"components,omitempty"`
	Until      *time.Time `json:"until,omitempty"`
	Times      int        `json:"times,omitempty"`
}

// GrantDecision decides on a partner's request, or ends one. What is left out stays as the partner asked.
type GrantDecision struct {
	AuditID string `json:"audit_id"`
	// Partner is needed if several partners have sent a request with this id.
	Partner    string     `json:"partner,omitempty"`
	Components []string   `json:"components,omitempty"`
	Until      *time.Time `json:"until,omitempty"`
	Times      *int       `json:"times,omitempty"`
}

// GrantRequestView describes a request for a grant to users of this party.
type GrantRequestView struct {
	AuditID string `json:"audit_id"`
	Partner string `json:"partner"`
	// Sent: this party asks the partner; otherwise the partner asks this party.
	Sent       bool         `json:"sent"`
	State      RequestState `json:"state"`
	Dataset    string       `json:"dataset"`
	Components []string     `json:"components"`
	Until      *time.Time   `json:"until"`
	Times      int          `json:"times"`
	// Permit reports whether the asker has the permit of an approved request.
	Permit    bool      `json:"permit"`
	CreatedBy string    `json:"created_by"`
	DecidedBy string    `json:"decided_by"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}
