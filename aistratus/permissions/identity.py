"""Checks of IAM, STS and Cognito.

Source: their pages of the Service Authorization Reference.
"""

from __future__ import annotations

from aistratus.permissions import resource_types as t
from aistratus.permissions.check import Check, Table, listing, pass_role, same, tagging

IDENTITY: Table = {
    # Everybody may ask who they are.
    "sts:GetCallerIdentity": (),
    **listing("iam", "GetAccountAuthorizationDetails ListRoles ListInstanceProfiles ListAccountAliases"),
    **same(
        "iam",
        t.ROLE,
        "RoleName",
        "DeleteRole UpdateRole UpdateAssumeRolePolicy TagRole ListRolePolicies PutRolePolicy DeleteRolePolicy "
        "ListAttachedRolePolicies AttachRolePolicy DetachRolePolicy PutRolePermissionsBoundary "
        "ListInstanceProfilesForRole",
    ),
    "iam:CreateRole": (
        Check("iam:CreateRole", t.ROLE, "RoleName"),
        tagging("iam:TagRole", t.ROLE, "RoleName", "Tags"),
    ),
    **same(
        "iam",
        t.PROFILE,
        "InstanceProfileName",
        "GetInstanceProfile DeleteInstanceProfile RemoveRoleFromInstanceProfile TagInstanceProfile",
    ),
    "iam:CreateInstanceProfile": (
        Check("iam:CreateInstanceProfile", t.PROFILE, "InstanceProfileName"),
        tagging("iam:TagInstanceProfile", t.PROFILE, "InstanceProfileName", "Tags"),
    ),
    # EC2 will act with the role, so it is handed over here already. Sources: IAM API reference, the operation's note;
    # Karpenter's controller policy, which passes a node's role to ec2.amazonaws.com for this very call.
    "iam:AddRoleToInstanceProfile": (
        Check("iam:AddRoleToInstanceProfile", t.PROFILE, "InstanceProfileName"),
        pass_role("RoleName", "ec2.amazonaws.com"),
    ),
    "iam:GetRole": (Check("iam:GetRole", t.ANY_ROLE, "RoleName"),),
    # About the caller, whoever that is.
    "iam:SimulatePrincipalPolicy": (Check("iam:SimulatePrincipalPolicy", t.PRINCIPAL, "PolicySourceArn"),),
    **listing("cognito-idp", "ListUserPools"),
    **same(
        "cognito-idp",
        t.USER_POOL,
        "UserPoolId",
        "DescribeUserPool UpdateUserPool SetUserPoolMfaConfig DeleteUserPool CreateUserPoolDomain "
        "DeleteUserPoolDomain ListUserPoolClients "
        "DescribeUserPoolClient CreateUserPoolClient UpdateUserPoolClient DeleteUserPoolClient ListGroups CreateGroup "
        "UpdateGroup DeleteGroup AdminGetUser AdminCreateUser AdminDeleteUser AdminEnableUser AdminDisableUser "
        "AdminUpdateUserAttributes AdminListGroupsForUser AdminAddUserToGroup AdminRemoveUserFromGroup "
        "AdminSetUserPassword AdminInitiateAuth ListUsers ListUsersInGroup",
    ),
    **same("cognito-idp", t.USER_POOL, "ResourceArn", "TagResource"),
    # A pool has no ARN before it is made; what it will be tagged with tells whose it is.
    "cognito-idp:CreateUserPool": (Check("cognito-idp:CreateUserPool", t.EVERYTHING, state="made"),),
    # What a token or a password opens needs no AWS credentials.
    "cognito-idp:InitiateAuth": (),
    "cognito-idp:RespondToAuthChallenge": (),
    "cognito-idp:RevokeToken": (),
}
