package bfia

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// The paths of the contract between two nodes (part 1, section 3).
const (
	PathContractApply     = "/v1/interconn/node/contract/apply"     // 3.1
	PathContractConfirm   = "/v1/interconn/node/contract/confirm"   // 3.2
	PathContractTerminate = "/v1/interconn/node/contract/terminate" // 3.3
	PathNodeUpdate        = "/v1/interconn/node/update"             // 3.4
	PathContractQuery     = "/v1/interconn/node/contract/query"     // 3.5
	PathNodeQuery         = "/v1/interconn/node/query"              // 3.6
	PathNodeHealth        = "/v1/interconn/node/health"             // 3.7
	PathNodeLink          = "/v1/interconn/node/link"               // of Hutong: package link

	// For administrators of a party; Hutong's additions.
	PathPartnerInvite = "/v2/contract/invite"
	PathPartnerApply  = "/v2/contract/apply"
	PathPartnerAccept = "/v2/contract/accept"
	PathPartnerUpdate = "/v2/contract/update"
	PathPartnerRemove = "/v2/contract/remove"
	PathPartnerQuery  = "/v2/contract/query"
)

// ContractState is the state of a contract (3.5).
type ContractState string

// The states of a contract. INVITED is Hutong's addition: this party waits for an application of the node.
const (
	ContractInvited    ContractState = "INVITED"
	ContractApplied    ContractState = "APPLIED"
	ContractApproved   ContractState = "APPROVED"
	ContractRejected   ContractState = "REJECTED"
	ContractTerminated ContractState = "TERMINATED"
)

// AuthTypeCert is the auth_type of a credential that is a certificate in PEM form, for mutual TLS.
const AuthTypeCert = "CERT"

// Node describes a node to another one (3.1, 3.4, 3.6).
type Node struct {
	NodeID        string `json:"node_id,omitempty"`
	Name          string `json:"name"`
	Institution   string `json:"institution"`
	InstID        string `json:"inst_id"`
	System        string `json:"system"`
	SystemVersion string `json:"system_version"`
	Description   string `json:"description,omitempty"`
	// Address is the base URL of the node's API.
	Address string `json:"address"`
	// TransportAddress is the base URL of its transport, if it differs. Hutong's addition.
	TransportAddress string `json:"transport_address,omitempty"`
}

// ContractApplication asks a node for a contract (3.1), or informs it of changes (3.4).
type ContractApplication struct {
	Node
	// ContractID is set in an update.
	ContractID     string `json:"contract_id,omitempty"`
	AuthType       string `json:"auth_type"`
	AuthCredential string `json:"auth_credential"`
	// ExpiredTime is the end of the contract in Unix milliseconds; 0 is none.
	ExpiredTime int64 `json:"expired_time,omitempty"`
	// Invitation is the secret of the invitation that the application answers. Hutong's addition.
	Invitation string `json:"invitation,omitempty"`
}

// ContractConfirmation accepts or rejects an application (3.2).
type ContractConfirmation struct {
	ContractID     string        `json:"contract_id"`
	Status         ContractState `json:"status"`
	AuthType       string        `json:"auth_type,omitempty"`
	AuthCredential string        `json:"auth_credential,omitempty"`
	ExpiredTime    int64         `json:"expired_time,omitempty"`
}

// ContractRef names a contract (3.1's answer, 3.3, 3.5).
type ContractRef struct {
	ContractID string `json:"contract_id"`
}

// ContractStatus is the state of a contract (3.5's answer).
type ContractStatus struct {
	Status ContractState `json:"status"`
}

// NodeHealth is the answer of a health check (3.7).
type NodeHealth struct {
	Status string `json:"status"`
}

// Invitation is what a party hands to another institution so that it can apply for a contract. Its holder may
// apply, once; the comparison of the fingerprints decides about the contract.
type Invitation struct {
	Node             string    `json:"node_id"` // that invites
	Invited          string    `json:"invited"` // that may apply
	Address          string    `json:"address"`
	TransportAddress string    `json:"transport_address,omitempty"`
	Fingerprint      string    `json:"fingerprint"` // of the key of Node
	Secret           string    `json:"secret"`
	Until            time.Time `json:"until"`
}

const invitationPrefix = "hutong-invitation-"

// Encode returns the invitation as one word, to be sent by mail.
func (i Invitation) Encode() string {
	text, err := json.Marshal(i)
	if err != nil {
		panic(err) // texts and a time
	}
	return invitationPrefix + base64.RawURLEncoding.EncodeToString(text)
}

// IsInvitation reports whether a text is meant to be an invitation.
func IsInvitation(text string) bool {
	return strings.HasPrefix(strings.TrimSpace(text), invitationPrefix)
}

// ParseInvitation parses an invitation. It ignores white space, which mail programs insert.
func ParseInvitation(text string) (Invitation, error) {
	encoded, ok := strings.CutPrefix(strings.Join(strings.Fields(text), ""), invitationPrefix)
	decoded, err := base64.RawURLEncoding.DecodeString(encoded)
	var i Invitation
	if !ok || err != nil || json.Unmarshal(decoded, &i) != nil {
		return i, Errorf(
			CodeBadRequest,
			"invitation: is not complete: copy the whole text, from %s to its end",
			invitationPrefix,
		)
	}
	if err := CheckID("invitation: node_id", i.Node); err != nil {
		return i, err
	}
	if err := CheckID("invitation: invited", i.Invited); err != nil {
		return i, err
	}
	return i, nil
}

// PartnerInvite asks this party for an invitation.
type PartnerInvite struct {
	NodeID string `json:"node_id"`
	// Days is how long it is valid; 0 is 7.
	Days int `json:"days,omitempty"`
}

// PartnerInvited is the answer to a [PartnerInvite].
type PartnerInvited struct {
	Invitation string `json:"invitation"`
	// Fingerprint is this party's, in groups, for the telephone.
	Fingerprint string    `json:"fingerprint"`
	Until       time.Time `json:"until"`
}

// PartnerAccept accepts an invitation of another party, or the application of a node.
type PartnerAccept struct {
	Invitation string `json:"invitation,omitempty"`
	NodeID     string `json:"node_id,omitempty"`
	// Fingerprint is the one that the user has compared.
	Fingerprint string `json:"fingerprint"`
}

// PartnerApplied is the answer to the acceptance of an invitation.
type PartnerApplied struct {
	NodeID string `json:"node_id"` // the party that has invited this one
	// Fingerprint is this party's, in groups, for the telephone.
	Fingerprint string `json:"fingerprint"`
}

// PartnerRef names a partner.
type PartnerRef struct {
	NodeID string `json:"node_id"`
}

// PartnerUpdate has this party report itself to partners by contract: its addresses and its certificate.
type PartnerUpdate struct {
	// NodeID is the partner. Empty: all.
	NodeID string `json:"node_id,omitempty"`
	// NextCertificate is the certificate that this party will use next, in PEM form. Empty: the present one.
	NextCertificate string `json:"next_certificate,omitempty"`
}

// PartnerUpdated says whether a partner has recorded what this party has reported of itself.
type PartnerUpdated struct {
	NodeID string `json:"node_id"`
	// Failure is why it has not. Empty: it has.
	Failure string `json:"failure,omitempty"`
}

// PartnerView describes a partner to users of this party.
type PartnerView struct {
	NodeID string `json:"node_id"`
	// Source is configuration or contract.
	Source string        `json:"source"`
	State  ContractState `json:"state"`
	// Applied says who has applied for the contract: this party ("self") or the partner.
	Applied          string     `json:"applied,omitempty"`
	ContractID       string     `json:"contract_id,omitempty"`
	Auth             string     `json:"auth"`
	Address          string     `json:"address,omitempty"`
	TransportAddress string     `json:"transport_address,omitempty"`
	Name             string     `json:"name,omitempty"`
	Institution      string     `json:"institution,omitempty"`
	System           string     `json:"system,omitempty"`
	Fingerprint      string     `json:"fingerprint,omitempty"`
	CertificateEnd   *time.Time `json:"certificate_end,omitempty"`
	ContractEnd      *time.Time `json:"contract_end,omitempty"`
	UpdatedAt        *time.Time `json:"updated_at,omitempty"`
}
