package operator_test

import (
	"testing"

	"portico/api/xrpc/xrpctest"
	"portico/impl/servertest"
)

const nobody = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"

// Who may call what shows in one file.
func TestPolicies(t *testing.T) {
	servertest.Golden(t, "policies.golden", xrpctest.Access(servertest.New(t, servertest.In("alt.portico.operator")).Routes()))
}

// requests are one for each method, about an account and a domain that are not here.
var requests = map[string]string{
	"approveQuarantined": `{"dids":["` + nobody + `"]}`,
	"deleteQuarantined":  `{"filter":{"mailDomain":"nowhere.example"}}`,
	"listQuarantined":    "",
	"clearBudgets":       `{"who":"192.0.2.1"}`,
	"createAccount":      `{"handle":"access.nowhere.example","email":"access@example.com","password":"a good password"}`,
	"deleteMail":         `{"id":4711}`,
	"disableAuthFactor":  `{"did":"` + nobody + `"}`,
	"exportAccount":      `{"did":"` + nobody + `"}`,
	"getAccount":         "?account=" + nobody,
	"getBlob":            "?did=" + nobody + "&cid=bafkreibjfgx2gprinfvicegelk5kosd6y2frmqpqzwqkg7usac74l3t2v4",
	"getBudgets":         "?who=192.0.2.1",
	"getFirehose":        "",
	"getHealth":          "",
	"getRequest":         "",
	"getSignUps":         "",
	"listMails":          "",
	"retryMail":          `{"id":4711}`,
	"getLog":             "?did=" + nobody,
	"getRepo":            "?did=" + nobody,
	"getMove":            "",
	"importRepo":         "",
	"inspectAccount":     "?did=" + nobody,
	"listBlobs":          "?did=" + nobody,
	"startMove":          `{"kind":"key","to":"0000-0000-0000-0000"}`,
	"updateMove":         `{"action":"retry"}`,
	"verifyRepo":         "?did=" + nobody,
	"listAccounts":       "",
	"listDomains":        "",
	"putDomain":          `{"domain":".access.test"}`,
	"removeDomain":       `{"domain":".unknown.example"}`,
	"receiveAccount":     `{"account":{"did":"` + nobody + `","handle":"access.test","emailAuthFactor":false,"invitesDisabled":false,"takedowns":[],"preferences":[]},"from":"https://elsewhere.example"}`,
	"repairAccount":      `{"did":"` + nobody + `"}`,
	"resetPassword":      `{"did":"` + nobody + `","password":"a good password"}`,
	"updateArrival":      `{"did":"` + nobody + `","action":"abandon"}`,
	"updateDeparture":    `{"did":"` + nobody + `","action":"abandon"}`,
	"uploadBlob":         "?did=" + nobody,
}

// Every method is called with every credential: the admin password opens all of them,
// and nothing else opens any.
func TestAccess(t *testing.T) {
	table := servertest.New(t, servertest.In("alt.portico.operator")).AccessTable(requests, servertest.AdminCredentials())
	servertest.Golden(t, "access.golden", "# What each method answers to each credential, everything else being right. The request is\n"+
		"# about an account or a domain that is not here.\n"+table)
}
