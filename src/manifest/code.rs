//! The stable numbers of manifest errors, each with what causes it and what to do next.
//!
//! 10xx reading and YAML, 11xx shape, 12xx references between objects, 13xx values. A number is never reused.

use crate::tenancy::codes;

codes! {
    Syntax = 1001, "not valid YAML",
        "The text cannot be read as YAML. Look at the line shown and the one above it: most often a colon, a bracket, \
         a quote or the indentation is wrong. The rest of that document was skipped, other documents and files were \
         still checked.";
    FileTooLarge = 1002, "file too large",
        "A manifest file may hold at most 1 MiB. Split it: any number of files and folders makes one fleet.";
    TooDeep = 1003, "nested too deeply",
        "Maps and lists may be nested at most 32 deep; no manifest needs more than six. Check the brackets.";
    TooManyNodes = 1004, "too many values in one file",
        "A file may hold at most 250,000 keys and values. Split it into several files.";
    Alias = 1005, "anchors, aliases and merge keys are refused",
        "`&name`, `*name` and `<<` let a few bytes of YAML stand for gigabytes, and hide from a reviewer what an \
         object says. Write the value out; what many tenants share belongs into their Tier.";
    NotText = 1006, "not a text file",
        "Manifests are UTF-8 text. The file is binary, has another encoding, or holds a control character. Save it \
         as UTF-8 or remove it from the folder.";
    SymlinkEscape = 1007, "symbolic link leaves the folder",
        "A link inside the folder points outside of it, so what is reviewed in git is not what would be applied. \
         Copy the file into the folder, or pass the other folder with another `-f`.";
    Empty = 1008, "nothing to read",
        "The file, folder or standard input holds no manifest. An empty input is never taken as \"remove everything\". \
         Check the path given with `-f` and that the checkout is complete.";
    NotFound = 1009, "no such file or folder",
        "The path does not exist. Check its spelling and the folder you are in; the default is `manifests/`.";
    Unreadable = 1010, "cannot be read",
        "The operating system refused to read the file or folder; the message has its reason. Check permissions.";
    TooMany = 1011, "too many files, documents or objects",
        "One run reads at most 20,000 files, 256 MiB and 50,000 objects, nested in at most 32 folders. Check that \
         `-f` names the manifests and not a parent folder.";
    Tag = 1012, "YAML tags are refused",
        "`!tag` and `!!type` change how a value is read. Manifests need none: quote a value that should be text.";

    UnknownKey = 1101, "unknown key",
        "The key is not one this map may hold. Most often it is misspelt, indented too little or too much, or belongs \
         to another kind. The allowed keys are listed with the error and in docs/manifests.md.";
    MissingKey = 1102, "missing key",
        "The map needs a key that is not there. Add it; docs/manifests.md shows an example of each kind.";
    WrongType = 1103, "wrong type of value",
        "The value is of another type than the key takes: text instead of a number, a list instead of a map, nothing \
         at all. Numbers and booleans are written without quotes; a boolean is `true` or `false`.";
    UnknownKind = 1104, "unknown kind",
        "`kind` must be Fleet, Tier, DatabasePool, Router or Tenant. If the file is no manifest, move it out of the \
         folder.";
    WrongApiVersion = 1105, "wrong apiVersion",
        "This version of o7s reads `apiVersion: ogelnates.dev/v1` only. Write exactly that, or use the o7s the \
         manifest was written for.";
    DuplicateKey = 1106, "duplicate key",
        "The same key appears twice in one map; which one counts would be a guess. Remove one of them.";
    BadKey = 1107, "key is not plain text",
        "A key must be a word; here a list, a map or an empty key was written. Check the colons and question marks.";

    DuplicateName = 1201, "duplicate object name",
        "Two objects of one kind have the same name. Rename or remove one; renaming a tenant that is live needs \
         `metadata.renamedFrom`.";
    UnknownTier = 1202, "unknown tier",
        "The tier is not declared anywhere in the folder. Add a Tier of that name, or correct the word.";
    UnknownPool = 1203, "unknown pool",
        "The pool is not declared anywhere in the folder. Add a DatabasePool of that name, or correct the word.";
    UpgradeCycle = 1204, "upgrade path goes in a circle",
        "Following `upgrade.to` from tier to tier comes back to where it began, so an upgrade would never end. Remove \
         `upgrade` from the highest tier of the circle.";
    OutgrowCycle = 1205, "outgrow path goes in a circle",
        "Following `outgrow.to` from pool to pool comes back to where it began, so a tenant would be moved around for \
         ever. Remove `outgrow` from the largest pool of the circle.";
    NoFleet = 1206, "no Fleet",
        "The input has no Fleet, and so no Railway project to work on. Add one document of `kind: Fleet`.";
    SeveralFleets = 1207, "several Fleets",
        "One input describes one fleet. Keep one Fleet, and give each other fleet its own folder.";
    NoTier = 1208, "tenant without a tier",
        "The tenant names no tier and the Fleet has no default. Set the tenant's `spec.tier` or the Fleet's \
         `spec.defaults.tier`.";
    NoPool = 1209, "tenant without a pool",
        "Neither the tenant nor its tier says which pool it lives in. Set `spec.placement.pool` on the Tier or on the \
         tenant.";
    PinnedOutside = 1210, "pinned instance does not exist",
        "`placement.instance` must be one of the pool's instances, `<pool>-1` to `<pool>-<instances.max>`.";
    DuplicatePublish = 1211, "variable published twice",
        "Two entries set the same variable of the same service; which URL it gets would be a guess. Remove one, or \
         use another variable.";
    UnknownRole = 1212, "role not declared",
        "`publish.role` must be one of the tenant's `spec.roles`. Declare it, or leave `role` out for the owner.";
    BadRename = 1213, "rename that cannot be",
        "`metadata.renamedFrom` names a tenant that is still declared, or that another tenant claims as well. Remove \
         the old manifest, and let one tenant take its place. Other kinds than a Tenant have no former name.";
    NameClash = 1214, "two names for one Railway service",
        "The name is also that of a database instance of a pool, and a Railway service can be only one of the two. \
         Rename it.";
    TooManyPinned = 1215, "more tenants pinned than fit",
        "More tenants are pinned to the instance than `tenantsPerInstance` of its pool allows. Pin fewer, or raise it.";

    BadName = 1301, "not a valid name",
        "Names are DNS labels: a-z, 0-9 and `-`, a letter first, no `-` at the end; roles have `_` instead of `-`. \
         They become database, role and service names, so they are not changed for you.";
    ReservedName = 1302, "reserved name",
        "The name belongs to Postgres, to Railway or to Ogelnates. Choose another; a prefix or suffix is enough.";
    NameTooLong = 1303, "name too long",
        "Tenant names have at most 48 characters, pools and routers 28 (Railway's 32 less the instance number), and \
         `<tenant>_<role>` at most 63 bytes, which is Postgres' limit. Choose a shorter one.";
    UnknownWord = 1304, "not one of the allowed words",
        "The key takes one of a few words, which are listed with the error. Upper and lower case matter.";
    Negative = 1305, "negative value",
        "Counts, sizes, times and prices are zero or more. Remove the minus sign; leave a limit out for no limit.";
    OutOfRange = 1306, "out of range",
        "The value is below or above what the key takes; the bounds are shown with the error.";
    BadQuantity = 1307, "not a valid quantity",
        "Sizes are whole numbers with Ki, Mi, Gi or Ti (`512Mi`), or plain bytes; times have ms, s, m, h or d \
         (`30s`); shares are whole percent (`40%`). Decimal units such as MB or GB are refused because they are \
         ambiguous.";
    Contradiction = 1308, "values that contradict each other",
        "Two values cannot both hold, such as more server connections than connections, or `instances.max` below \
         `min`. The error names both; change one.";
    BadDecimal = 1309, "not a valid decimal number",
        "Prices and vCPUs are written as plain decimals (`9.00`, `0.5`) without sign, exponent or separators; prices \
         have at most 9 decimals, vCPUs 3. They are kept exactly, never rounded.";
    BadVariable = 1310, "not a valid variable name",
        "An environment variable is made of A-Z, a-z, 0-9 and `_` and does not start with a digit. `O7S_…` is kept \
         for Ogelnates and `RAILWAY_…` for Railway.";
    BadText = 1311, "text that cannot be used here",
        "The text is empty, too long, or not of the form the key needs (a host name, an image, a URL). The error says \
         which.";
    DuplicateEntry = 1312, "listed twice",
        "A list that means a set has the same entry twice. Remove one.";
}
